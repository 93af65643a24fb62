-- Write down how jobs ended. ARGV: token, kept_ms, then per job: kind, lane, id and five more (see each kind).
-- Only the worker that holds a job may end it, so a second writing changes nothing. Returns how many were ours.
--   end:   result or '', how long to keep it in ms, unique key or '', 'failed' or '', ''
--   again: due in ms, tries, attempt as JSON or '', priority, the lane to wait in
--   back:  score, '', '', '', ''
local token, kept, now = ARGV[1], tonumber(ARGV[2]), now_ms()
local ours, processed, failed, woken = 0, {}, {}, {}

local function over(lane, id, result, keep, unique, is_failed)
  redis.call('ZREM', lane, id)
  redis.call('DEL', JOB .. id, TRIES .. id, ATTEMPTS .. id)
  if result ~= '' and tonumber(keep) > 0 then
    redis.pcall('SET', RESULT .. id, result, 'PX', keep) -- a full Redis may refuse it; the job is over all the same
  end
  if unique ~= '' and redis.call('GET', UNIQUE .. unique) == id then
    redis.call('DEL', UNIQUE .. unique)
  end
  processed[lane] = (processed[lane] or 0) + 1
  if is_failed ~= '' then
    failed[lane] = (failed[lane] or 0) + 1
  end
end

local function again(lane, id, delay, tries, attempt, priority, target)
  local due = now + tonumber(delay)
  if lane ~= target then
    redis.call('ZREM', lane, id)
    redis.call('SADD', LANES, target)
  end
  defer(target, id, due, tonumber(priority))
  redis.call('PEXPIRE', JOB .. id, delay + kept)
  if tries ~= '0:0' then
    redis.call('SET', TRIES .. id, tries, 'PX', delay + kept)
  end
  if attempt ~= '' then
    redis.call('RPUSH', ATTEMPTS .. id, attempt)
    redis.call('PEXPIRE', ATTEMPTS .. id, delay + kept)
    redis.call('ZADD', RETRY .. target, due, id)
  end
  woken[target] = true
end

for at = 3, #ARGV, 8 do
  local kind, lane, id, a, b, c, d, e = unpack(ARGV, at, at + 7)
  if redis.call('HGET', RUNNING .. lane, id) == token then
    redis.call('HDEL', RUNNING .. lane, id)
    redis.call('DEL', IN_PROGRESS .. id)
    if kind == 'end' then
      over(lane, id, a, b, c, d)
    elseif kind == 'again' then
      again(lane, id, a, b, c, d, e)
    else
      redis.call('ZADD', lane, a, id)
      woken[lane] = true
    end
    ours = ours + 1
  end
end
for lane, count in pairs(processed) do
  redis.call('HINCRBY', COUNTS .. lane, 'processed', count)
end
for lane, count in pairs(failed) do
  redis.call('HINCRBY', COUNTS .. lane, 'failed', count)
end
for lane in pairs(woken) do
  redis.call('PUBLISH', WAKE, lane)
end
return ours
