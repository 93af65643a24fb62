-- Stop a job that waits or runs in one of `lanes`. One that waits is over at once; one that runs is marked, and the worker
-- that holds it ends it. Returns the lane it was taken from ('' where it runs) and its content, or nil where there is no
-- such job.
local function stop(id, lanes, now)
  local payload = redis.call('GET', JOB .. id)
  if not payload then
    return nil
  end
  for _, lane in ipairs(lanes) do
    if redis.call('HEXISTS', RUNNING .. lane, id) == 1 then
      redis.call('ZADD', CANCEL, now, id)
      return '', payload
    end
  end
  local is_read, job = pcall(cjson.decode, payload)
  local unique = is_read and type(job) == 'table' and type(job.u) == 'string' and job.u or ''
  for _, lane in ipairs(lanes) do
    if redis.call('ZSCORE', lane, id) then
      redis.call('ZREM', RETRY .. lane, id)
      local waits_in = let_go(lane, id, unique, now)
      if waits_in then
        redis.call('PUBLISH', WAKE, waits_in)
      end
      return lane, payload
    end
  end
  return nil
end
