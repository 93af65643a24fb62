-- Store jobs. ARGV: kept_ms, then per job: lane, id, payload, delay_ms, priority, unique key or '', once_ms.
-- Returns per job the id of the job that stands for it: its own, or the first with the same unique key.
-- Safe to repeat with the same ids.
local kept, now = tonumber(ARGV[1]), now_ms()
local ids, woken = {}, {}
for at = 2, #ARGV, 7 do
  local lane, id, payload, delay, priority, unique, once = unpack(ARGV, at, at + 6)
  delay, priority, once = tonumber(delay), tonumber(priority), tonumber(once)
  local first = unique ~= '' and redis.call('GET', UNIQUE .. unique)
  if first and first ~= id and redis.call('EXISTS', JOB .. first) == 1 then
    id = first
  elseif redis.call('EXISTS', JOB .. id, RESULT .. id, ONCE .. id) == 0 then
    redis.call('SET', JOB .. id, payload, 'PX', delay + kept)
    if unique ~= '' then
      redis.call('SET', UNIQUE .. unique, id, 'PX', delay + kept)
    end
    if once > 0 then
      redis.call('SET', ONCE .. id, 1, 'PX', delay + once)
    end
    if delay > 0 then
      defer(lane, id, now + delay, priority)
    else
      redis.call('ZADD', lane, now - (priority > 0 and head_start_ms(priority) or 0), id)
    end
    woken[lane] = true
  end
  ids[#ids + 1] = id
end
for lane in pairs(woken) do
  redis.call('SADD', LANES, lane)
  redis.call('PUBLISH', WAKE, lane)
end
return ids
