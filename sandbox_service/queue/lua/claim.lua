-- Starts an attempt at up to `count` calls: tenants take turns by the slot time that each has had, and each tenant's
-- calls are claimed in the order of its lanes: again, interactive, batch.
-- ARGV: worker, count, images. Returns {'lost'} if the worker has no lease,
-- else {'ok', tenant, id, attempt, payload, age, queued, remaining, ...} with times in us.

local worker, count_wanted = ARGV[1], tonumber(ARGV[2])
-- Leftovers (cancelled, expired) are dropped on the way, but only so many at once: a script stops the whole server.
local MOST_DROPPED = 256

if not has_lease(worker) then
  return { 'lost' }
end

local reply, claimed, dropped = { 'ok' }, 0, 0

local function start(lane, entry, fields)
  local call = call_of(lane, entry, fields)
  if not call then
    drop_leftover(lane, entry, fields)
    count_queued(lane, fields[2], -1)
    dropped = dropped + 1
  elseif concluded_too_late(call) then
    dropped = dropped + 1
  else
    local attempt = call.attempt + 1
    local told = redis.call('HMGET', call.key, 'payload', 'age', 'admitted_at')
    redis.call('HSET', call.key, 'state', 'running', 'attempt', attempt, 'owner', worker, 'claimed_at',
      string.format('%.0f', now))
    count_queued(lane, call.tenant, -1)
    claimed = claimed + 1
    local queued = math.max(0, now - told[3])
    local at = #reply
    reply[at + 1], reply[at + 2], reply[at + 3], reply[at + 4] = call.tenant, call.id, attempt, told[1]
    reply[at + 5], reply[at + 6], reply[at + 7] = told[2], queued, call.deadline - now
  end
end

local function read(lane, most)
  local answer = redis.pcall('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', most, 'STREAMS', lane, '>')
  if answer and answer.err then
    if not string.find(answer.err, 'NOGROUP', 1, true) then
      return error(answer.err)
    end
    open_lane(lane)
    answer = redis.call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', most, 'STREAMS', lane, '>')
  end
  return answer and answer[1][2] or {}
end

-- Starts up to `most` of a tenant's calls; true if it has no more of them queued for this image. `queued` tells how many
-- the tenant has in each class, of all images.
local function take(image, tenant, most, queued)
  local goal = claimed + most
  local left = 0
  for at, class in ipairs(CLASSES) do
    local lane = lane_of(image, class, tenant)
    local before = claimed + dropped
    local more = tonumber(queued[at] or 0) > 0
    while more and claimed < goal do
      if dropped >= MOST_DROPPED then
        return false
      end
      local asked = goal - claimed
      local entries = read(lane, asked)
      for _, item in ipairs(entries) do
        start(lane, item[1], item[2])
      end
      more = #entries == asked
    end
    left = left + (queued[at] or 0) - (claimed + dropped - before)
  end
  return claimed < goal or left <= 0
end

local function running(tenant)
  local total = 0
  for _, lane in ipairs(redis.call('SMEMBERS', LANES)) do
    local _, _, owner = parts_of(lane)
    if owner == tenant then
      total = total + redis.call('XPENDING', lane, GROUP)[1]
    end
  end
  return total
end

-- While calls of a tenant wait: how many were claimed in how long. The latest count most, and a dry queue begins anew.
-- `submit` estimates waits from it: no mean of slot times knows of idle slots, lost workers or a machine that got slower.
local function keep_pace(tenant, more, is_dry, told)
  local at, spent, paced = told[1], tonumber(told[2] or 0), tonumber(told[3] or 0)
  if is_dry then
    if at then
      redis.call('HDEL', TENANT .. tenant, 'paced_at', 'paced_us', 'paced')
    end
  elseif more > 0 then
    if at then
      spent, paced = spent + math.max(0, now - at), paced + more
    end
    if paced > 2 * MEMORY then
      spent, paced = spent / 2, paced / 2
    end
    redis.call('HSET', TENANT .. tenant, 'paced_at', string.format('%.0f', now), 'paced_us',
      string.format('%.0f', spent), 'paced', paced)
  end
end

local function serve(image)
  local turns = TURNS .. image
  local at_limit = 0 -- this many tenants have had least, and may have no more now
  while claimed < count_wanted and dropped < MOST_DROPPED do
    local head = redis.call('ZRANGE', turns, at_limit, at_limit + 1, 'WITHSCORES')
    local tenant, had, next_had = head[1], tonumber(head[2]), tonumber(head[4])
    if not tenant then
      break
    end
    local told = redis.call('HMGET', TENANT .. tenant, 'weight', 'service', 'in_flight', 'paced_at', 'paced_us', 'paced',
      unpack(CLASSES))
    local charge = math.max(1, math.floor((told[2] or FIRST_GUESS) / (told[1] or 1)))
    local most = count_wanted - claimed
    if next_had then
      most = math.min(most, math.floor((next_had - had) / charge) + 1)
    end
    if told[3] then
      most = math.min(most, told[3] - running(tenant))
    end
    if most <= 0 then
      at_limit = at_limit + 1
    else
      local before = claimed
      local is_dry = take(image, tenant, most, { told[7], told[8], told[9] })
      keep_pace(tenant, claimed - before, is_dry, { told[4], told[5], told[6] })
      local charged = charge * (claimed - before)
      if is_dry then
        redis.call('ZREM', turns, tenant)
        if next_had then
          redis.call('HSET', TENANT .. tenant, 'debt', math.max(0, had + charged - next_had), 'left_at',
            string.format('%.0f', now))
        end
      elseif (next_had or at_limit > 0) and charged > 0 then
        redis.call('ZINCRBY', turns, charged, tenant)
      end
    end
  end
end

for at = 3, #ARGV do
  serve(ARGV[at])
end
flush()

-- What is left behind wakes the next worker, so that one call wakes one worker and many calls wake many, in a chain.
if claimed >= count_wanted or dropped >= MOST_DROPPED then
  for at = 3, #ARGV do
    if redis.call('EXISTS', TURNS .. ARGV[at]) == 1 then
      wake(ARGV[at])
    end
  end
end
return reply
