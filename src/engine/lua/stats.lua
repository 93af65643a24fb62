-- Per lane of ARGV: {waiting, active, scheduled, waiting for a retry, paused, score of the first in line or '',
-- its payload or '', processed, failed, dead}, and at last the time in ms and what a priority of 1 is worth in ms.
-- Costs the same however many jobs wait.
local now, answer = now_ms(), {}

-- Jobs that run; those whose worker died count among the waiting again as soon as their lease is over.
local function active_in(lane)
  local active, ids = 0, redis.call('HKEYS', RUNNING .. lane)
  for at = 1, #ids, 1000 do
    for _, score in ipairs(redis.call('ZMSCORE', lane, unpack(ids, at, math.min(at + 999, #ids)))) do
      active = active + ((score and tonumber(score) > now) and 1 or 0)
    end
  end
  return active
end

for number, lane in ipairs(ARGV) do
  local active = active_in(lane)
  local waiting = redis.call('ZCOUNT', lane, '-inf', now)
  local future = redis.call('ZCARD', lane) - waiting
  local retry = redis.call('ZCOUNT', RETRY .. lane, '(' .. string.format('%.0f', now), '+inf')
  local first = redis.call('ZRANGEBYSCORE', lane, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
  local counts = redis.call('HMGET', COUNTS .. lane, 'processed', 'failed', 'dead')
  answer[number] = {
    waiting, active, math.max(0, future - active - retry), retry, redis.call('SISMEMBER', PAUSED, lane),
    first[2] or '', first[1] and redis.call('GET', JOB .. first[1]) or '',
    tonumber(counts[1] or 0), tonumber(counts[2] or 0), tonumber(counts[3] or 0),
  }
end
answer[#answer + 1] = now
answer[#answer + 1] = head_start_ms(1)
return answer
