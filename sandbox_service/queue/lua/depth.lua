-- Counts what is queued, from the lanes themselves, and corrects the counts and turns by it; they are exact but for
-- calls that expired unseen, or keys that somebody removed by hand. Returns {queued, bytes}.

local seen, queued, unfinished = {}, 0, 0
for _, lane in ipairs(redis.call('SMEMBERS', LANES)) do
  local image, class, tenant = parts_of(lane)
  local waiting = queued_in(lane)
  local classes = seen[tenant] or {}
  seen[tenant] = classes
  classes[class] = (classes[class] or 0) + waiting
  queued, unfinished = queued + waiting, unfinished + redis.call('XLEN', lane)
  if waiting > 0 then
    take_turns(image, tenant)
  end
end
for tenant, classes in pairs(seen) do
  local stored = redis.call('HMGET', TENANT .. tenant, unpack(CLASSES))
  for at, class in ipairs(CLASSES) do
    if tonumber(stored[at] or 0) ~= (classes[class] or 0) then
      redis.call('HSET', TENANT .. tenant, class, classes[class] or 0)
    end
  end
end
local bytes = unfinished > 0 and redis.call('HGET', BACKLOG, 'bytes') or 0
redis.call('HSET', BACKLOG, 'queued', queued, 'bytes', bytes)
return { queued, tonumber(bytes) }
