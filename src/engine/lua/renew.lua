-- Renew leases. ARGV: token, lease_ms, head start of a priority of 1 in ms, then per job: lane, id.
-- Returns the ids that another worker holds by now. Safe to repeat.
local token, lease, now = ARGV[1], tonumber(ARGV[2]), now_ms()
even_when_full()
beat(now, lease)
redis.call('SET', HEAD_START, ARGV[3])
local lost = {}
for at = 4, #ARGV, 2 do
  local lane, id = ARGV[at], ARGV[at + 1]
  local owner = redis.call('HGET', RUNNING .. lane, id)
  if owner and owner ~= token and owner ~= '?' .. token then
    lost[#lost + 1] = id
  elseif redis.call('ZSCORE', lane, id) and (owner or redis.call('EXISTS', FREED .. id) == 0) then
    -- also where Redis forgot the claim (its last second before a crash)
    redis.call('HSET', RUNNING .. lane, id, token)
    redis.call('ZADD', lane, now + lease, id)
    if redis.call('PEXPIRE', IN_PROGRESS .. id, lease) == 0 then
      redis.call('SET', IN_PROGRESS .. id, now, 'PX', lease)
    end
  end
end
return lost
