-- Ends calls of one page of a lane that passed their deadline while queued, so that an image that no worker serves
-- does not fill the server. ARGV: lane, first entry, page size. Returns the last entry read, or false at the end.

local lane = ARGV[1]
local page = redis.call('XRANGE', lane, ARGV[2], '+', 'COUNT', ARGV[3])
for _, item in ipairs(page) do
  local call = call_of(lane, item[1], item[2])
  if not call then
    drop_entry(lane, item[1])
  else
    concluded_too_late(call)
  end
end
flush()
return #page == tonumber(ARGV[3]) and page[#page][1] or false
