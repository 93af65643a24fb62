-- Redis' own clock, so that the clocks of producers and workers need not agree.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A full Redis refuses a script that begins with a write that may need memory, and accepts all of one that begins with
-- another: workers must go on then, since it is they who make room.
local function even_when_full()
  redis.call('DEL', 'folkform:none')
end

local function head_start_ms(priority)
  return priority * (tonumber(redis.call('GET', HEAD_START)) or 30000)
end

-- A job of some priority that is not due yet waits in its place like any other and gets its head start when it falls due.
local function defer(lane, id, due, priority)
  redis.call('ZADD', lane, due, id)
  if priority > 0 then
    redis.call('ZADD', PROMOTE .. lane, due, string.format('%.0f|%s', head_start_ms(priority), id))
  end
end

-- A number higher than any holder of a job was given before, even where Redis forgot the last: the clock carries it, in
-- microseconds. As text: a reply or JSON would round it.
local function next_fence()
  local time = redis.call('TIME')
  local fence = string.format('%.0f', math.max((tonumber(redis.call('GET', FENCE)) or 0) + 1, time[1] * 1000000 + time[2]))
  redis.call('SET', FENCE, fence)
  return fence
end

-- How long a job of a group waits for those before it, until it is looked whether they are still there.
local behind_ms = 600000

-- The group a job is in, or nil, and the lane it was put in.
local function group_of(id)
  local lane, group = string.match(redis.call('GET', GROUP_OF .. id) or '', '^([^|]*)|(.*)$')
  return group, lane
end

-- The first of a group that there still is.
local function first_of(group)
  local id = redis.call('LINDEX', GROUP .. group, 0)
  while id and redis.call('EXISTS', JOB .. id) == 0 do
    redis.call('LPOP', GROUP .. group)
    id = redis.call('LINDEX', GROUP .. group, 0)
  end
  return id
end

-- Nobody spoke with Redis for half a lease: it was away, or no worker lived. Those who live renew their leases first,
-- whichever of them it is that speaks first.
local function beat(now, lease)
  local last, gap = tonumber(redis.call('GET', BEAT)), math.max(lease / 2, 1000)
  if last and now - last > gap then
    redis.call('SET', HOLD, 1, 'PX', string.format('%.0f', math.max(lease / 3, 1000)))
  end
  redis.call('SET', BEAT, now)
end
