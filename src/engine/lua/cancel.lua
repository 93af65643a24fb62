-- Stop one job. ARGV: id, then every lane there is. Returns 'removed', 'running' or 'unknown'. Safe to repeat.
local lanes = {}
for at = 2, #ARGV do
  lanes[#lanes + 1] = ARGV[at]
end
local found = stop(ARGV[1], lanes, now_ms())
return found == nil and 'unknown' or found == '' and 'running' or 'removed'
