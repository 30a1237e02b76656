-- The requests of bench_http.py, for wrk: `-- MODE WORDS`. One thread, so a counter makes every name new.
local mode, words, count, made = "", {}, 0, {}

function init(args)
  mode = args[1]
  for n = 2, #args do words[n - 1] = args[n] end
  if mode == "lease" then
    for id in io.lines(words[1]) do
      made[#made + 1] = wrk.format("POST", "/v1/leases/" .. id .. "/heartbeat")
    end
  elseif mode == "instance" then
    for n = 0, 199 do made[n + 1] = wrk.format("POST", "/v1/services/web/i" .. n .. "/heartbeat") end
  elseif mode == "post" then
    local file = io.open(words[2])
    made[1] = wrk.format("POST", words[1], nil, file:read("*a"))
    file:close()
  end
end

function request()
  count = count + 1
  if #made > 0 then return made[count % #made + 1] end
  if mode == "register" then
    local path = "/v1/services/s" .. count % 1000 .. ".t" .. words[1] .. "/i" .. count
    return wrk.format("PUT", path, nil, '{"host": "10.0.0.1", "port": 8080, "lease_ttl": 3600}')
  elseif mode == "etcd2" then
    local path = "/v2/keys/skydns/t" .. words[1] .. "/s" .. count % 1000 .. "/i" .. count
    local form = {["Content-Type"] = "application/x-www-form-urlencoded"}
    return wrk.format("PUT", path, form, "value=%7B%22host%22%3A%2210.0.0.1%22%2C%22port%22%3A8080%7D")
  end
  local puts = {}
  for n = 1, tonumber(words[2]) do
    puts[n] = '{"put": {"service": "s' .. n % 100 .. '", "instance": "i' .. count .. "-" .. n ..
      '", "host": "10.0.0.1", "port": 8080, "lease": "' .. words[1] .. '"}}'
  end
  return wrk.format("POST", "/v1/batch", nil, '{"operations": [' .. table.concat(puts, ", ") .. "]}")
end
