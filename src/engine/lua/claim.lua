-- Claim due jobs of several lanes at once. ARGV: token, lease_ms, free, suspects, then
-- per lane: name, key, step. The lane with the lowest key goes first, and each job taken adds step to its key.
-- Returns {jobs, ms until something falls due or -1, due jobs per lane before this call, the time in ms, fence}; a job
-- is {lane number, id, payload or nil, tries, score, 1 where it is to be stopped}.
local token, lease, free, suspects = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms()

even_when_full()
beat(now, lease)
redis.call('SET', ALIVE .. token, 1, 'PX', 1500)
local may_rescue = redis.call('EXISTS', HOLD) == 0

local paused = {}
for _, lane in ipairs(redis.call('SMEMBERS', PAUSED)) do
  paused[lane] = true
end

local function promote(lane)
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', PROMOTE .. lane, '-inf', now, 'LIMIT', 0, 100)) do
    local bar = string.find(entry, '|', 1, true)
    local id = string.sub(entry, bar + 1)
    if redis.call('HEXISTS', RUNNING .. lane, id) == 0 then
      redis.call('ZADD', lane, 'XX', now - tonumber(string.sub(entry, 1, bar - 1)), id)
    end
    redis.call('ZREM', PROMOTE .. lane, entry)
  end
end

local lanes, dues = {}, {}
for at = 5, #ARGV, 3 do
  local lane = {name = ARGV[at], key = tonumber(ARGV[at + 1]), step = tonumber(ARGV[at + 2]), take = 0}
  promote(lane.name)
  lane.due = paused[lane.name] and 0 or redis.call('ZCOUNT', lane.name, '-inf', now)
  lanes[#lanes + 1], dues[#dues + 1] = lane, lane.due
end

for _ = 1, free do
  local best
  for _, lane in ipairs(lanes) do
    if lane.take < lane.due and (not best or lane.key < best.key) then
      best = lane
    end
  end
  if not best then
    break
  end
  best.take, best.key = best.take + 1, best.key + best.step
end

local jobs = {}
local is_any_marked = redis.call('EXISTS', CANCEL) == 1

-- What became of the tries of a job whose holder died: one worker more that it killed.
local function with_kill(tries)
  local failed, killed = string.match(tries or '0:0', '^(%d+):(%d+)$')
  return failed .. ':' .. (killed + 1), killed + 1
end

local function later(lane, id, ms)
  redis.call('ZADD', lane, now + ms, id)
end

-- Whether a job whose lease ran out may be run here now, and its tries.
local function rescued(lane, id, owner, tries)
  if owner == token then
    return true, tries -- the reply to our own claim was lost, or we still run it and were away; the caller knows
  end
  if not may_rescue then
    later(lane, id, 500)
    return false
  end
  local handed = string.match(owner, '^%?(.*)')
  if handed and redis.call('EXISTS', ALIVE .. handed) == 1 then
    return true, tries -- it was handed to a worker that lives, so the message did not arrive
  end
  local counted, killed = with_kill(tries)
  if killed >= 2 then -- few such jobs at a time, so that the guilty one does not drag others along
    if suspects < 1 then
      later(lane, id, 500)
      return false
    end
    suspects = suspects - 1
  end
  redis.call('SET', TRIES .. id, counted, 'PX', 2592000000)
  return true, counted
end

for number, lane in ipairs(lanes) do
  if lane.take > 0 then
    local found = redis.call('ZRANGEBYSCORE', lane.name, '-inf', now, 'WITHSCORES', 'LIMIT', 0, lane.take)
    local ids, held, payloads, tries, groups = {}, {}, {}, {}, {}
    for at = 1, #found, 2 do
      local id = found[at]
      ids[#ids + 1], held[#held + 1] = id, IN_PROGRESS .. id
      payloads[#payloads + 1], tries[#tries + 1], groups[#groups + 1] = JOB .. id, TRIES .. id, GROUP_OF .. id
    end
    if #ids > 0 then
      local running = RUNNING .. lane.name
      local owners = redis.call('HMGET', running, unpack(ids))
      held, payloads, tries = redis.call('MGET', unpack(held)), redis.call('MGET', unpack(payloads)),
        redis.call('MGET', unpack(tries))
      groups = redis.call('MGET', unpack(groups))
      local hide, own = {}, {}
      for at, id in ipairs(ids) do
        local taken = true
        if groups[at] and not owners[at] and first_of(string.match(groups[at], '|(.*)$')) ~= id then
          later(lane.name, id, behind_ms)
          taken = false
        elseif owners[at] then
          taken, tries[at] = rescued(lane.name, id, owners[at], tries[at])
        elseif held[at] then -- an arq Worker of somebody else runs it
          later(lane.name, id, math.max(redis.call('PTTL', IN_PROGRESS .. id), 1000))
          taken = false
        end
        if taken then
          hide[#hide + 1], hide[#hide + 2] = now + lease, id
          own[#own + 1], own[#own + 2] = id, token
          redis.call('SET', IN_PROGRESS .. id, now, 'PX', lease)
          if tries[at] then
            redis.call('ZREM', RETRY .. lane.name, id)
          end
          local is_marked = is_any_marked and redis.call('ZSCORE', CANCEL, id)
          jobs[#jobs + 1] = {number, id, payloads[at], tries[at] or '', found[at * 2], is_marked and 1 or 0}
        end
      end
      if #own > 0 then
        redis.call('ZADD', lane.name, unpack(hide))
        redis.call('HSET', running, unpack(own))
      end
    end
  end
end

local next_due = -1
redis.call('DEL', FREE .. token)
if #jobs < free then
  redis.call('SET', FREE .. token, free - #jobs, 'PX', 1000)
  for _, lane in ipairs(lanes) do
    redis.call('SET', IDLE .. lane.name, token, 'PX', 1000)
    if not paused[lane.name] then
      local first = redis.call('ZRANGEBYSCORE', lane.name, '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
      if first[2] and (next_due < 0 or first[2] - now < next_due) then
        next_due = math.ceil(first[2] - now)
      end
    end
  end
end
return {jobs, next_due, dues, now, #jobs > 0 and next_fence() or '0'}
