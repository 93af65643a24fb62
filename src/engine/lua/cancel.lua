-- Stop one job. ARGV: id, then every lane there is. Returns {'unknown'}, {'running'}, or of one that waited {'removed', lane,
-- content, fence}: who records its end does so as its last holder. Safe to repeat.
local lanes = {}
for at = 2, #ARGV do
  lanes[#lanes + 1] = ARGV[at]
end
local lane, payload = stop(ARGV[1], lanes, now_ms())
if lane == nil then
  return {'unknown'}
end
if lane == '' then
  return {'running'}
end
return {'removed', lane, payload, next_fence()}
