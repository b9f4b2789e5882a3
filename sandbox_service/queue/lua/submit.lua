-- Admits calls, all or none.
-- ARGV: tenant, channel, max_queued, batch or '', batch digest, batch TTL in ms,
--       then for each call: id, digest, image, class, timeout in us, age in us, labels as JSON, payload, keep (1: somebody
--       holds a ticket for it).
-- Returns {'conflict', index} (index -1: the batch), {'overloaded', queued}, or {'ok', state, result, state, ...}.

local tenant, channel, max_queued = ARGV[1], ARGV[2], tonumber(ARGV[3])
local batch, batch_digest, batch_ttl_ms = ARGV[4], ARGV[5], ARGV[6]
local FIRST, WIDTH = 7, 9

local batch_key = BATCH .. tenant .. ':' .. batch
if batch ~= '' then
  local known = redis.call('HGET', batch_key, 'digest')
  if known and known ~= batch_digest then
    return { 'conflict', -1 }
  end
end

-- First look at all, then write: nothing is written of a refused submission.
local digests, new = {}, {}
for at = FIRST, #ARGV, WIDTH do
  local id, digest = ARGV[at], ARGV[at + 1]
  local known = digests[id] or redis.call('HGET', CALL .. tenant .. ':' .. id, 'digest')
  if not known then
    new[#new + 1] = at
  elseif known ~= digest then
    return { 'conflict', (at - FIRST) / WIDTH }
  end
  digests[id] = digest
end

if #new > 0 then
  local queued = 0
  for _, lane in ipairs(redis.call('SMEMBERS', LANES)) do
    queued = queued + queued_in(lane)
  end
  if queued + #new > max_queued then
    return { 'overloaded', queued }
  end
end

local opened, images, fresh = {}, {}, {}
for _, at in ipairs(new) do
  local id, image, timeout = ARGV[at], ARGV[at + 2], tonumber(ARGV[at + 4])
  local lane = lane_of(image, ARGV[at + 3])
  if not opened[lane] then
    open_lane(lane)
    opened[lane] = true
  end
  local key = CALL .. tenant .. ':' .. id
  local entry = redis.call('XADD', lane, '*', 'tenant', tenant, 'id', id, 'labels', ARGV[at + 6])
  redis.call('HSET', key, 'state', 'queued', 'digest', ARGV[at + 1], 'attempt', 0, 'lane', lane, 'entry', entry,
    'deadline', string.format('%.0f', now + timeout), 'admitted_at', string.format('%.0f', now), 'age', ARGV[at + 5],
    'payload', ARGV[at + 7], 'notify', '')
  -- Long enough that a result is committed, or the deadline noticed, while the call is still known.
  redis.call('PEXPIRE', key, math.ceil(timeout / 1000) + GONE_TTL_MS)
  images[image] = true
  fresh[id] = true
end
for image in pairs(images) do
  wake(image)
end

local ids, reply = {}, { 'ok' }
for at = FIRST, #ARGV, WIDTH do
  local id = ARGV[at]
  ids[#ids + 1] = id
  local call = load_call(tenant, id)
  if call.state ~= 'done' then
    subscribe(call, channel)
    if ARGV[at + 8] == '1' then
      subscribe(call, TICKET)
    end
  end
  if fresh[id] then
    reply[#reply + 1] = 'queued'
    reply[#reply + 1] = false
  else
    if call.state ~= 'done' then
      concluded_too_late(call)
    end
    reply[#reply + 1], reply[#reply + 2] = describe(tenant, id)
  end
end
if batch ~= '' then
  redis.call('HSET', batch_key, 'digest', batch_digest, 'ids', table.concat(ids, ' '))
  redis.call('PEXPIRE', batch_key, batch_ttl_ms)
end
flush()
return reply
