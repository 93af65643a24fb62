-- A schedule's tick: decided once, whoever asks and however often. ARGV: name, tick (ms), the last one that is known to be
-- decided (ms; what Redis itself remembers may be gone), what to do while the run before goes on (skip, queue,
-- cancel_previous; drop for a tick that was missed and starts nothing), kept_ms, the lanes of its jobs as a JSON list, the job as a JSON list (see `put`).
-- Returns {word, the run before or '', what became of that, and of one that fired the job that stands for it}: `old`, decided before; `skipped`; `dropped`; `fired`, and then of the
-- run before '' where it was over, 'waits' where this one lines up behind it, 'removed' or 'running' where it is stopped.
-- The decision and the job are one step, so nobody can hold a schedule and die, and a worker that slept through its tick
-- finds it decided.
local name, tick, overlap = ARGV[1], tonumber(ARGV[2]), ARGV[4]
local lanes, job = cjson.decode(ARGV[6]), cjson.decode(ARGV[7])
kept, now = tonumber(ARGV[5]), now_ms()
local key = SCHEDULE .. name
local state = redis.call('HMGET', key, 'tick', 'job')
local before = state[2] or ''

local function goes_on(id)
  if id == '' or redis.call('EXISTS', JOB .. id) == 0 then
    return false
  end
  for _, lane in ipairs(lanes) do
    if redis.call('ZSCORE', lane, id) then
      return true
    end
  end
  return false
end

if tick <= math.max(tonumber(state[1] or 0), tonumber(ARGV[3])) then
  return {'old', before, ''}
end
local is_on, became = goes_on(before), ''
redis.call('HSET', key, 'tick', string.format('%.0f', tick))
if overlap == 'drop' then
  return {'dropped', before, ''}
end
if is_on and overlap == 'skip' then
  return {'skipped', before, ''}
end
if is_on and overlap == 'cancel_previous' then
  became = stop(before, lanes, now) == '' and 'running' or 'removed'
elseif is_on then
  became = 'waits'
end
local id = put(job)
put_all()
redis.call('HSET', key, 'job', id)
return {'fired', before, became, id}
