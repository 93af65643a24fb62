-- A schedule's tick: decided once, whoever asks and however often. ARGV: name, tick (ms), the last one that is known to be
-- decided (ms; what Redis itself remembers may be gone), what to do while the run before goes on (skip, queue,
-- cancel_previous; drop for a tick that was missed and starts nothing), kept_ms, the lanes of its jobs as a JSON list, the
-- job as a JSON list (see `put`), the time at which it was found due (ms), who asks.
-- Returns {word, the run before or '', what became of that, the job that stands for a tick that fired, the tick decided
-- before (ms)}: `old`, decided before; `skipped`; `dropped`; `fired`, and then of the run before '' where it was over,
-- 'waits' where this one lines up behind it, 'removed' or 'running' where it is stopped.
-- The decision and the job are one step, so nobody can hold a schedule and die, and a worker that slept through its tick
-- finds it decided. Who asks again, since the answer was lost, is given it again.
local name, tick, overlap, asked = ARGV[1], tonumber(ARGV[2]), ARGV[4], ARGV[9] .. ':' .. ARGV[2]
local lanes, job = cjson.decode(ARGV[6]), cjson.decode(ARGV[7])
kept, now = tonumber(ARGV[5]), now_ms()
local key = SCHEDULE .. name
local state = redis.call('HMGET', key, 'tick', 'job', 'by', 'said')
local before, last_of_all = state[2] or '', math.max(now, tonumber(ARGV[8])) + 60000

-- No tick is decided before its time, so one that lies ahead is of a clock that was wrong, and is to hold up nobody.
local function decided(ms)
  ms = tonumber(ms) or 0
  return ms > last_of_all and 0 or ms
end
local last = math.max(decided(state[1] or 0), decided(ARGV[3]))

-- The lane in which a run waits or goes on, or nil.
local function goes_on(id)
  if id == '' or redis.call('EXISTS', JOB .. id) == 0 then
    return nil
  end
  for _, lane in ipairs(lanes) do
    if redis.call('ZSCORE', lane, id) then
      return lane
    end
  end
  return nil
end

-- A run that began while its schedule skipped is in no line yet: what is to wait for it would start beside it.
local function stands_first(id, lane)
  local group = job[8]
  if group ~= '' and not group_of(id) then
    redis.call('SET', GROUP_OF .. id, lane .. '|' .. group, 'PX', kept)
    redis.call('LPUSH', GROUP .. group, id)
    redis.call('PEXPIRE', GROUP .. group, kept)
  end
end

local function answer(word, became, id)
  local reply = {word, before, became, id, string.format('%.0f', last)}
  redis.call('HSET', key, 'tick', string.format('%.0f', tick), 'by', asked, 'said', cjson.encode(reply))
  return reply
end

if tick <= last then
  if tonumber(state[1] or 0) == tick and state[3] == asked then
    return cjson.decode(state[4])
  end
  return {'old', before, '', '', string.format('%.0f', last)}
end
if overlap == 'drop' then
  return answer('dropped', '', '')
end
local runs_in, became = goes_on(before), ''
if runs_in and overlap == 'skip' then
  return answer('skipped', '', '')
end
if runs_in and overlap == 'cancel_previous' then
  became = stop(before, lanes, now) == '' and 'running' or 'removed'
elseif runs_in then
  became = 'waits'
end
if became == 'running' or became == 'waits' then
  stands_first(before, runs_in)
end
local id = put(job)
put_all()
redis.call('HSET', key, 'job', id)
return answer('fired', became, id)
