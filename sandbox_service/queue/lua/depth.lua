-- Returns how many calls no worker has claimed yet.

local queued = 0
for _, lane in ipairs(redis.call('SMEMBERS', LANES)) do
  queued = queued + queued_in(lane)
end
return queued
