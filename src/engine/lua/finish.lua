-- Write down how jobs ended. ARGV: token, kept_ms, a JSON list of lists, per job: kind, lane, id and five more texts or
-- numbers (see each kind).
-- Only the worker that holds a job may end it, so a second writing changes nothing. Returns how many were ours.
-- One that was to be stopped, and comes back before its worker heard of it, is due at once: who claims it ends it.
--   end:   result or '', how long to keep it in ms, unique key or '', 'failed' or '', ''
--   again: due in ms, tries, attempt as JSON or '', priority, the lane to wait in
--   back:  score, '', '', '', ''
--   hold:  lease_ms, '', '', '', ''    a job that was handed over has arrived
local token, kept, now = ARGV[1], tonumber(ARGV[2]), now_ms()
even_when_full()
local ours, processed, failed, woken = 0, {}, {}, {}

-- Longer than somebody who enqueues asks again where the answer was lost (`ENQUEUE_S`).
local asked_again = 15000

local function over(lane, id, result, keep, unique, is_failed)
  if result ~= '' and tonumber(keep) > 0 then
    redis.pcall('SET', RESULT .. id, result, 'PX', keep) -- a full Redis may refuse it; the job is over all the same
  end
  if tonumber(keep) < asked_again then -- nothing else would tell that it has been here
    redis.pcall('SET', ONCE .. id, 1, 'PX', asked_again, 'NX')
  end
  local waits_in = let_go(lane, id, unique, now)
  if waits_in then
    woken[waits_in] = true
  end
  processed[lane] = (processed[lane] or 0) + 1
  if is_failed ~= '' then
    failed[lane] = (failed[lane] or 0) + 1
  end
end

local function again(lane, id, delay, tries, attempt, priority, target)
  local due = now + tonumber(delay)
  local sooner = redis.call('GET', HURRY .. id)
  if sooner then
    redis.call('DEL', HURRY .. id)
    due = math.min(due, math.max(now, tonumber(sooner)))
  end
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

local is_any_marked = redis.call('EXISTS', CANCEL) == 1
local function is_marked(id)
  return is_any_marked and redis.call('ZSCORE', CANCEL, id)
end

for _, job in ipairs(cjson.decode(ARGV[3])) do
  local kind, lane, id, a, b, c, d, e = unpack(job)
  local owner = redis.call('HGET', RUNNING .. lane, id)
  local is_ours = owner == token or owner == '?' .. token
  if is_ours and kind == 'hold' then
    redis.call('HSET', RUNNING .. lane, id, token)
    redis.call('ZADD', lane, now + a, id)
    redis.call('PEXPIRE', IN_PROGRESS .. id, a)
  elseif is_ours then
    redis.call('HDEL', RUNNING .. lane, id)
    redis.call('DEL', IN_PROGRESS .. id)
    if kind ~= 'end' then
      redis.call('SET', FREED .. id, 1, 'PX', 10000) -- longer than a renewal can be under way
    end
    if kind == 'end' then
      over(lane, id, a, b, c, d)
    elseif kind == 'again' then
      again(lane, id, is_marked(id) and 0 or a, b, c, d, e)
    else
      redis.call('ZADD', lane, is_marked(id) and math.min(a, now) or a, id)
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
