-- Takes back the attempts of workers that lost their lease. Any number of callers may run it at any time: it is one
-- script, and what it takes back is no longer pending.
-- ARGV: lane, caller's name or '', lease in ms, then 'tenant:id' of what the caller still holds. Returns how many.

local lane, me, lease_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local MOST = 500
local held = {}
for at = 4, #ARGV do
  held[ARGV[at]] = true
end

local function take_back(entry, owner)
  local fields = entry_fields(lane, entry)
  local call = call_of(lane, entry, fields)
  if not call then
    drop_leftover(lane, entry, fields)
  elseif is_cancelled(call) then
    conclude_ourselves(call, CANCELLED)
  elseif call.attempt >= MOST_ATTEMPTS then
    local told = redis.call('HMGET', call.key, 'digest', 'payload')
    redis.call('XADD', DEAD, 'MAXLEN', DEAD_LETTERS, '*', 'tenant', call.tenant, 'id', call.id,
      'attempts', call.attempt, 'worker', owner, 'digest', told[1],
      'payload', call.size <= LETTER_BYTES and told[2] or '')
    conclude_ourselves(call, LOST)
  elseif call.deadline <= now then
    conclude_too_late(call)
  else
    queue_again(call, call.attempt)
  end
end

local consumers = redis.pcall('XINFO', 'CONSUMERS', lane, GROUP)
if consumers.err then
  return 0 -- another worker has just removed the lane, with nothing in it
end
local taken = 0
for _, consumer in ipairs(consumers) do
  local name, pending = consumer[2], consumer[4]
  if name == me then
    -- A claim whose answer never arrived, or an attempt given up: nobody here works on it.
    for _, item in ipairs(redis.call('XPENDING', lane, GROUP, 'IDLE', lease_ms, '-', '+', MOST, name)) do
      local fields = entry_fields(lane, item[1])
      if not fields or not held[fields[2] .. ':' .. fields[4]] then
        take_back(item[1], name)
        taken = taken + 1
      end
    end
  elseif not has_lease(name) then
    if pending == 0 then
      redis.call('XGROUP', 'DELCONSUMER', lane, GROUP, name)
    end
    for _, item in ipairs(redis.call('XPENDING', lane, GROUP, '-', '+', MOST, name)) do
      take_back(item[1], name)
      taken = taken + 1
    end
  end
end
flush()
return taken
