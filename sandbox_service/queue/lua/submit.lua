-- Admits calls: all or none, or each by itself.
-- ARGV: tenant, channel, 'all' or 'each', batch or '', batch digest, batch TTL in ms, slots of all workers or 0,
--       most calls queued, most bytes unfinished,
--       the tenant's weight, most in flight, most queued, calls per s, burst, CPU s per hour (0: no such limit),
--       then for each call: id, digest, image, class, timeout in us, age in us, labels as JSON, payload, keep (1: somebody
--       holds a ticket for it).
-- Returns {'conflict', index} (index -1: the batch), {'refused', why}, or {'ok', state, result, state, ...}, where 'each'
-- can answer {'conflict', ''} or {'refused', why} for a state and its result.
-- `why` is 'kind us have limit': which limit, when to come back, and by which figures.

local tenant, channel, all_or_none = ARGV[1], ARGV[2], ARGV[3] == 'all'
local batch, batch_digest, batch_ttl_ms = ARGV[4], ARGV[5], ARGV[6]
local slots, max_queued, max_bytes = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local weight, in_flight, most_queued = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local rate, burst, cpu_per_hour = tonumber(ARGV[13]), tonumber(ARGV[14]), tonumber(ARGV[15])
local FIRST, WIDTH = 16, 9
local MARGIN = 2 -- a wait is estimated from what was, and a machine may get slower by half after it has accepted a call
local ENOUGH = 16 -- so many claims of a backlog tell its pace

local batch_key = BATCH .. tenant .. ':' .. batch
if batch ~= '' then
  local known = redis.call('HGET', batch_key, 'digest')
  if known and known ~= batch_digest then
    return { 'conflict', -1 }
  end
end

-- First look at all, then write: nothing is written of a refused submission.
local digests, new, conflicts = {}, {}, {}
for at = FIRST, #ARGV, WIDTH do
  local id, digest = ARGV[at], ARGV[at + 1]
  local known = digests[id] or redis.call('HGET', CALL .. tenant .. ':' .. id, 'digest')
  if known and known ~= digest then
    if all_or_none then
      return { 'conflict', (at - FIRST) / WIDTH }
    end
    conflicts[at] = true
  else
    if not known then
      new[#new + 1] = at
    end
    digests[id] = digest
  end
end

-- What stands in the way of new calls, in calls, bytes and us.
local queued, bytes, of_tenant, service, pace, tokens, cpu_level

local function look_up()
  local total = redis.call('HMGET', BACKLOG, 'queued', 'bytes')
  queued, bytes = tonumber(total[1] or 0), tonumber(total[2] or 0)
  local told = redis.call('HMGET', TENANT .. tenant, 'again', 'interactive', 'batch', 'service', 'weight', 'in_flight',
    'tokens', 'tokens_at', 'cpu', 'cpu_seen', 'cpu_level', 'cpu_at', 'paced_at', 'paced_us', 'paced')
  of_tenant = { again = tonumber(told[1] or 0), interactive = tonumber(told[2] or 0), batch = tonumber(told[3] or 0) }
  service = tonumber(told[4] or FIRST_GUESS)
  if told[13] and of_tenant.again + of_tenant.interactive + of_tenant.batch <= 0 then
    redis.call('HDEL', TENANT .. tenant, 'paced_at', 'paced_us', 'paced') -- what waited then was cancelled
  elseif told[13] and tonumber(told[15]) >= ENOUGH then
    pace = (told[14] + math.max(0, now - told[13])) / told[15]
  end
  if tonumber(told[5] or 1) ~= weight or tonumber(told[6] or 0) ~= in_flight then
    redis.call('HSET', TENANT .. tenant, 'weight', weight)
    if in_flight > 0 then
      redis.call('HSET', TENANT .. tenant, 'in_flight', in_flight)
    else
      redis.call('HDEL', TENANT .. tenant, 'in_flight')
    end
  end
  if rate > 0 then
    tokens = told[7] and math.min(burst, told[7] + math.max(0, now - told[8]) / 1e6 * rate) or burst
  end
  if cpu_per_hour > 0 then
    local cpu = tonumber(told[9] or 0)
    cpu_level = told[10] and math.max(0, told[11] - math.max(0, now - told[12]) / 3600 * cpu_per_hour) + cpu - told[10] or 0
    redis.call('HSET', TENANT .. tenant, 'cpu_seen', string.format('%.0f', cpu), 'cpu_level',
      string.format('%.0f', cpu_level), 'cpu_at', string.format('%.0f', now))
  end
end

-- How many of the tenant's calls run at once while all who wait now do.
local width
local function parallel()
  if not width then
    local weights = weight
    for _, other in ipairs(redis.call('ZRANGE', TURNS .. ARGV[new[1] + 2], 0, -1)) do
      if other ~= tenant then
        weights = weights + (redis.call('HGET', TENANT .. other, 'weight') or 1)
      end
    end
    width = slots * weight / weights
    if in_flight > 0 then
      width = math.min(width, in_flight)
    end
  end
  return width
end

-- How long until this many calls have left the queue.
local function drained(calls, at_once)
  return at_once > 0 and calls * service / at_once or 1e6
end

local function why(kind, us, have, limit)
  return string.format('%s %.0f %.6g %.6g', kind, us, have, limit)
end

-- Why these calls can not be admitted (together), or nil; if they can, they are counted as admitted.
local function refusal(calls)
  local more, size = #calls, 0
  for _, at in ipairs(calls) do
    size = size + #ARGV[at + 7]
  end
  if rate > 0 and tokens < math.min(more, burst) then
    return why('rate', (math.min(more, burst) - tokens) / rate * 1e6, rate, rate)
  end
  if cpu_per_hour > 0 and cpu_level >= cpu_per_hour * 1e6 then
    return why('cpu', (cpu_level - cpu_per_hour * 1e6) / cpu_per_hour * 3600 + 1e6, cpu_level / 1e6, cpu_per_hour)
  end
  local mine = of_tenant.again + of_tenant.interactive + of_tenant.batch
  if most_queued > 0 and mine + more > most_queued then
    return why('queued', drained(math.min(mine, mine + more - most_queued), parallel()), mine, most_queued)
  end
  if queued + more > max_queued then
    return why('depth', drained(math.min(queued, queued + more - max_queued), slots), queued, max_queued)
  end
  if bytes + size > max_bytes and bytes > 0 then
    return why('bytes', drained(math.ceil(queued * math.min(1, (bytes + size - max_bytes) / bytes)), slots), bytes, max_bytes)
  end
  local ahead = { interactive = of_tenant.again + of_tenant.interactive, batch = mine }
  for _, at in ipairs(calls) do
    local class, timeout = ARGV[at + 3], tonumber(ARGV[at + 4])
    local rounds = slots > 0 and ahead[class] > 0 and math.floor(ahead[class] / parallel()) or 0
    local wait = rounds > 0 and math.max(rounds * service, ahead[class] * (pace or 0)) or 0
    if wait > 0 and wait * MARGIN + service > timeout then
      return why('wait', (wait * MARGIN + service - timeout) / MARGIN, wait, timeout)
    end
    ahead[class] = ahead[class] + 1
  end

  for _, at in ipairs(calls) do
    local class = ARGV[at + 3]
    of_tenant[class] = of_tenant[class] + 1
  end
  queued, bytes = queued + more, bytes + size
  tokens = tokens and tokens - more
  return nil
end

local refused = {}
if #new > 0 then
  look_up()
  if all_or_none then
    local reason = refusal(new)
    if reason then
      return { 'refused', reason }
    end
  else
    local admitted = {}
    for _, at in ipairs(new) do
      refused[ARGV[at]] = refusal({ at })
      if not refused[ARGV[at]] then
        admitted[#admitted + 1] = at
      end
    end
    new = admitted
  end
  if tokens then
    redis.call('HSET', TENANT .. tenant, 'tokens', tokens, 'tokens_at', string.format('%.0f', now))
  end
end

local images, fresh = {}, {}
for _, at in ipairs(new) do
  local id, image, timeout, payload = ARGV[at], ARGV[at + 2], tonumber(ARGV[at + 4]), ARGV[at + 7]
  if not images[image] then
    take_turns(image, tenant)
    images[image] = true
  end
  local lane = lane_of(image, ARGV[at + 3], tenant)
  local key = CALL .. tenant .. ':' .. id
  local holders = ARGV[at + 8] == '1' and channel .. ' ' .. TICKET or channel
  local entry = redis.call('XADD', lane, '*', 'tenant', tenant, 'id', id, 'labels', ARGV[at + 6], 'size', #payload)
  redis.call('HSET', key, 'state', 'queued', 'digest', ARGV[at + 1], 'attempt', 0, 'lane', lane, 'entry', entry,
    'deadline', string.format('%.0f', now + timeout), 'admitted_at', string.format('%.0f', now), 'age', ARGV[at + 5],
    'payload', payload, 'size', #payload, 'notify', holders)
  -- Long enough that a result is committed, or the deadline noticed, while the call is still known.
  redis.call('PEXPIRE', key, math.ceil(timeout / 1000) + GONE_TTL_MS)
  count_queued(lane, tenant, 1)
  count('', 'bytes', #payload)
  fresh[at] = true
end
for image in pairs(images) do
  wake(image)
end

local ids, reply = {}, { 'ok' }
local function answer(state, result)
  reply[#reply + 1], reply[#reply + 2] = state, result
end

for at = FIRST, #ARGV, WIDTH do
  local id = ARGV[at]
  ids[#ids + 1] = id
  if fresh[at] then
    answer('queued', false)
  elseif conflicts[at] then
    answer('conflict', '')
  elseif refused[id] then
    answer('refused', refused[id])
  else
    local call = load_call(tenant, id)
    if call.state ~= 'done' then
      subscribe(call, channel)
      if ARGV[at + 8] == '1' then
        subscribe(call, TICKET)
      end
      concluded_too_late(call)
    end
    answer(describe(tenant, id))
  end
end
if batch ~= '' then
  redis.call('HSET', batch_key, 'digest', batch_digest, 'ids', table.concat(ids, ' '))
  redis.call('PEXPIRE', batch_key, batch_ttl_ms)
end
flush()
return reply
