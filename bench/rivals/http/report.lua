-- Makes wrk end with one line for bench/run.
function done(summary, latency, requests)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write
                 + summary.errors.status + summary.errors.timeout
  io.write(string.format("figures %d %d %d %d %d\n", summary.requests, summary.duration,
                         latency:percentile(50), latency:percentile(99), failed))
end
