-- Cancels calls by id, or those of one page of a lane by label.
-- ARGV: tenant, 'ids', ids: returns {state afterwards or false, ...}.
-- ARGV: tenant, 'abandoned', channel, ids: cancels those that nobody else holds; returns how many.
-- ARGV: tenant, 'label', name, value, lane, first entry, page size: returns {cancelled, last entry read or false}.

local tenant = ARGV[1]

-- Queued: ends here. Running: its worker is told, and finds the flag if it missed the message.
local function cancel(call)
  if call.state == 'queued' then
    conclude_ourselves(call, CANCELLED)
  elseif call.state == 'running' then
    redis.call('HSET', call.key, 'cancel', 1)
    announce(CANCELS .. call.owner, call.tenant, call.id)
  end
end

if ARGV[2] == 'ids' then
  local reply = {}
  for at = 3, #ARGV do
    local call = load_call(tenant, ARGV[at])
    if call then
      cancel(call)
    end
    local state = describe(tenant, ARGV[at])
    reply[#reply + 1] = state
  end
  flush()
  return reply
end

if ARGV[2] == 'abandoned' then
  local cancelled = 0
  for at = 4, #ARGV do
    local call = load_call(tenant, ARGV[at])
    if call and call.state ~= 'done' and let_go(call, ARGV[3]) then
      cancel(call)
      cancelled = cancelled + 1
    end
  end
  flush()
  return cancelled
end

local name, value, lane = ARGV[3], ARGV[4], ARGV[5]
local page = redis.call('XRANGE', lane, ARGV[6], '+', 'COUNT', ARGV[7])
local cancelled = 0
for _, item in ipairs(page) do
  local fields = item[2]
  if fields[2] == tenant and fields[6] ~= '{}' and cjson.decode(fields[6])[name] == value then
    local call = call_of(lane, item[1], fields)
    if call and not is_cancelled(call) then
      cancel(call)
      cancelled = cancelled + 1
    end
  end
end
flush()
return { cancelled, #page > 0 and page[#page][1] or false }
