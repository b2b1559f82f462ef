-- Requests by wrk with tokens in turn. Prints a line when the warm-up is over.
--
-- Arguments: the number of requests of the warm-up, and a file with one token per line.

-- The tokens; with a single token, the prebuilt request.
local heads = {}
local before, after
local warm_up, issued, turn = 0, 0, 0

function init(arguments)
  warm_up = tonumber(arguments[1])
  before = "GET " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\nAuthorization: Bearer "
  after = "\r\n\r\n"
  for token in io.lines(arguments[2]) do
    heads[#heads + 1] = token
  end
  if #heads == 1 then
    heads[1] = before .. heads[1] .. after
  end
end

function request()
  issued = issued + 1
  if issued == warm_up then
    io.write("warm\n")
    io.flush()
  end
  if #heads == 1 then
    return heads[1]
  end
  turn = turn % #heads + 1
  return before .. heads[turn] .. after
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"bytes":%d,"seconds":%f,"errors":%d,"p50":%f,"p99":%f}\n',
    summary.requests, summary.bytes, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.timeout + errors.status,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000
  ))
  io.flush()
end
