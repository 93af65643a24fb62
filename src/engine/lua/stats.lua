-- Per lane of ARGV: {waiting, active, scheduled, waiting for a retry, paused, score of the first in line or '',
-- its payload or '', processed, failed, dead}, and at last the time in ms. Costs the same however long the lanes are.
local now, answer = now_ms(), {}
for number, lane in ipairs(ARGV) do
  local active = redis.call('HLEN', RUNNING .. lane)
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
return answer
