-- Starts an attempt at up to `count` calls, in the order of the lanes: again, interactive, batch.
-- ARGV: worker, count, images. Returns {'lost'} if the worker has no lease,
-- else {'ok', tenant, id, attempt, payload, age, queued, remaining, ...} with times in us.

local worker, count = ARGV[1], tonumber(ARGV[2])
-- Leftovers (cancelled, expired) are dropped on the way, but only so many at once: a script stops the whole server.
local MOST_DROPPED = 256

if not has_lease(worker) then
  return { 'lost' }
end

local reply, claimed, dropped = { 'ok' }, 0, 0

local function start(lane, entry, fields)
  local call = call_of(lane, entry, fields)
  if not call then
    drop_entry(lane, entry)
    dropped = dropped + 1
  elseif concluded_too_late(call) then
    dropped = dropped + 1
  else
    local attempt = call.attempt + 1
    redis.call('HSET', call.key, 'state', 'running', 'attempt', attempt, 'owner', worker)
    claimed = claimed + 1
    local told = redis.call('HMGET', call.key, 'payload', 'age', 'admitted_at')
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
    redis.call('SREM', LANES, lane)
    open_lane(lane)
    answer = redis.call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', most, 'STREAMS', lane, '>')
  end
  return answer and answer[1][2] or {}
end

for _, class in ipairs(CLASSES) do
  for at = 3, #ARGV do
    local lane = lane_of(ARGV[at], class)
    while claimed < count and dropped < MOST_DROPPED do
      local entries = read(lane, count - claimed)
      if #entries == 0 then
        break
      end
      for _, item in ipairs(entries) do
        start(lane, item[1], item[2])
      end
    end
  end
end
flush()

-- What is left behind wakes the next worker, so that one call wakes one worker and many calls wake many, in a chain.
if claimed >= count or dropped >= MOST_DROPPED then
  for at = 3, #ARGV do
    for _, class in ipairs(CLASSES) do
      if redis.call('SISMEMBER', LANES, lane_of(ARGV[at], class)) == 1 and queued_in(lane_of(ARGV[at], class)) > 0 then
        wake(ARGV[at])
        break
      end
    end
  end
end
return reply
