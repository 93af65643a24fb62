-- How a job is stored; for scripts that enqueue. They say how long a job is `kept` (ms) and what time it is (`now`).
local waiting, woken, taker = {}, {}, {}
local kept, now

-- Whether `lane` has a worker with nothing to do, and nothing waiting before this job.
local function is_idle(lane)
  if taker[lane] == nil then
    taker[lane] = redis.call('SISMEMBER', PAUSED, lane) == 0 and redis.call('ZCOUNT', lane, '-inf', now) == 0
      and redis.call('GET', IDLE .. lane)
  end
  return taker[lane]
end

-- Give a job that is due to an idle worker at once: it saves the worker's own way to Redis and back. The worker has to
-- confirm; a message that got lost costs `handed` ms, and counts as nobody's death.
local function hand_over(lane, id, payload)
  local token, handed = is_idle(lane), 2000
  if not token or (tonumber(redis.call('GET', FREE .. token)) or 0) < 1 then
    return false
  end
  if redis.call('PUBLISH', HAND .. token, cjson.encode({lane, id, payload, now, next_fence()})) == 0 then
    redis.call('DEL', FREE .. token)
    return false
  end
  redis.call('DECR', FREE .. token)
  redis.call('HSET', RUNNING .. lane, id, '?' .. token)
  redis.call('SET', IN_PROGRESS .. id, now, 'PX', handed)
  redis.call('ZADD', lane, now + handed, id)
  redis.call('SADD', LANES, lane)
  return true
end

-- Line up behind the jobs of its group; whether there are any.
local function is_behind(lane, id, group)
  redis.call('SET', GROUP_OF .. id, lane .. '|' .. group, 'PX', kept)
  local length = redis.call('RPUSH', GROUP .. group, id)
  redis.call('PEXPIRE', GROUP .. group, kept)
  return length > 1
end

-- Store a job as `Queue.prepare` wrote it; returns the id of the job that stands for it: its own, or the first with the
-- same unique key.
local function put(job)
  local lane, id, payload, delay, priority, unique, once, group = unpack(job)
  local first = unique ~= '' and redis.call('GET', UNIQUE .. unique)
  if first and first ~= id and redis.call('EXISTS', JOB .. first) == 1 then
    return first
  end
  if redis.call('EXISTS', JOB .. id, RESULT .. id, ONCE .. id) == 0 then
    redis.call('SET', JOB .. id, payload, 'PX', delay + kept)
    if unique ~= '' then
      redis.call('SET', UNIQUE .. unique, id, 'PX', delay + kept)
    end
    if once > 0 then
      redis.call('SET', ONCE .. id, 1, 'PX', delay + once)
    end
    if group ~= '' and is_behind(lane, id, group) then
      redis.call('ZADD', lane, now + behind_ms, id)
      redis.call('SADD', LANES, lane)
    elseif delay > 0 then
      defer(lane, id, now + delay, priority)
      woken[lane] = true
    elseif not hand_over(lane, id, payload) then
      local line = waiting[lane] or {}
      line[#line + 1], line[#line + 2] = now - (priority > 0 and head_start_ms(priority) or 0), id
      waiting[lane], taker[lane] = line, false
    end
  end
  return id
end

-- At the end: what waits gets in line, and those who serve its lanes are woken.
local function put_all()
  for lane, line in pairs(waiting) do
    redis.call('ZADD', lane, unpack(line))
    woken[lane] = true
  end
  for lane in pairs(woken) do
    redis.call('SADD', LANES, lane)
    redis.call('PUBLISH', WAKE, lane)
  end
end
