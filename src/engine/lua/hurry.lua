-- Let waiting jobs run sooner. ARGV: a JSON list of lanes, a JSON list of {id, in ms}. Safe to repeat.
local now, woken = now_ms(), {}
local lanes = cjson.decode(ARGV[1])
for _, job in ipairs(cjson.decode(ARGV[2])) do
  local id, due = job[1], now + job[2]
  for _, lane in ipairs(lanes) do
    local score = redis.call('ZSCORE', lane, id)
    if score and redis.call('HEXISTS', RUNNING .. lane, id) == 1 then
      redis.call('SET', HURRY .. id, due, 'PX', 60000) -- the lane holds its lease now: `finish` looks here
    elseif score and tonumber(score) > due then
      redis.call('ZADD', lane, due, id)
      if redis.call('ZSCORE', RETRY .. lane, id) then
        redis.call('ZADD', RETRY .. lane, due, id)
      end
      woken[lane] = true
    end
  end
end
for lane in pairs(woken) do
  redis.call('PUBLISH', WAKE, lane)
end
return 0
