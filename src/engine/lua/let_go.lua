-- A job is over: nothing of it stays but its result. Returns the lane in which the next of its group waits, or nil.
local function let_go(lane, id, unique, now)
  local group = group_of(id)
  local was_first = group and first_of(group) == id
  redis.call('ZREM', lane, id)
  redis.call('ZREM', CANCEL, id)
  redis.call('DEL', JOB .. id, TRIES .. id, ATTEMPTS .. id, HURRY .. id)
  if unique ~= '' and redis.call('GET', UNIQUE .. unique) == id then
    redis.call('DEL', UNIQUE .. unique)
  end
  if not group then
    return nil
  end
  redis.call('LREM', GROUP .. group, 1, id)
  redis.call('DEL', GROUP_OF .. id)
  if not was_first then -- who is has a time of its own
    return nil
  end
  local next_id = first_of(group)
  local _, waits_in = group_of(next_id or '')
  if waits_in and redis.call('HEXISTS', RUNNING .. waits_in, next_id) == 0 then
    redis.call('ZADD', waits_in, 'XX', now, next_id)
    return waits_in
  end
  return nil
end
