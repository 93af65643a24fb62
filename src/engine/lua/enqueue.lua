-- Store jobs. ARGV: kept_ms, a JSON list of lists, per job: lane, id, payload, delay_ms, priority, unique key or '',
-- once_ms, group or ''.
-- Returns per job the id of the job that stands for it (see `put`).
-- Safe to repeat with the same ids.
kept, now = tonumber(ARGV[1]), now_ms()
local ids = {}
for _, job in ipairs(cjson.decode(ARGV[2])) do
  ids[#ids + 1] = put(job)
end
put_all()
return ids
