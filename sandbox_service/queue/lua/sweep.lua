-- Ends calls of one page of a lane that passed their deadline while queued, so that an image that no worker serves
-- does not fill the server; and removes the lane when its tenant has nothing left in it.
-- ARGV: lane, first entry, page size. Returns the last entry read, or false at the end.

local lane = ARGV[1]
local page = redis.call('XRANGE', lane, ARGV[2], '+', 'COUNT', ARGV[3])
for _, item in ipairs(page) do
  local call = call_of(lane, item[1], item[2])
  if not call then
    drop_leftover(lane, item[1], item[2])
  else
    concluded_too_late(call)
  end
end
flush()
local image, _, tenant = parts_of(lane)
if redis.call('XLEN', lane) == 0 and not redis.call('ZSCORE', TURNS .. image, tenant) then
  redis.call('DEL', lane)
  redis.call('SREM', LANES, lane)
end
return #page == tonumber(ARGV[3]) and page[#page][1] or false
