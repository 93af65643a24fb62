-- What a scheduler has to know each second. Returns {the time in ms, ids of jobs that are to be stopped}.
-- A mark a day old is of a job that left no trace.
local now = now_ms()
if redis.call('EXISTS', CANCEL) == 1 then
  redis.call('ZREMRANGEBYSCORE', CANCEL, '-inf', now - 86400000)
end
return {now, redis.call('ZRANGE', CANCEL, 0, 999)}
