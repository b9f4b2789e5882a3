-- Put before every script: loading a call, and the ways its state changes. The constants in capitals (keys, times,
-- results) come from scripts.py.
--
-- A call is a hash {state, digest, attempt, owner, lane, entry, deadline, admitted_at, claimed_at, age, payload, size,
-- notify, cancel, result}. `notify` names its holders: the channels of gateways where somebody waits for it, and TICKET if somebody
-- will come back for it. While it is queued or running exactly one stream entry stands for it: `entry` in the stream `lane`.
-- Times are microseconds of the server's clock, which a Lua number holds exactly.

-- Each image has a sorted set `turns`: the tenants that have calls queued for it, by the slot time that each has had, in
-- us over its weight; whoever had least is next. A tenant has three lanes per image, one for each class. What is queued
-- is counted per tenant and class, and altogether, as are the bytes of all payloads; `depth` corrects the counts.

local CLASSES = { 'again', 'interactive', 'batch' } -- the lanes of a tenant, in the order they are claimed from
local FIRST_GUESS = 10000 -- us that a tenant's call takes a slot, before any has

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local acknowledged = {} -- lane -> entries to take out of it at the end of the script
local announced = {} -- channel -> texts to publish at the end of the script

local function append(lists, name, item)
  local list = lists[name]
  if not list then
    list = {}
    lists[name] = list
  end
  list[#list + 1] = item
end

-- Texts for a channel, each with its length before it, so that a result can be any bytes.
local function announce(channel, ...)
  for _, text in ipairs({ ... }) do
    append(announced, channel, #text .. ':')
    append(announced, channel, text)
  end
end

local function lane_of(image, class, tenant)
  return WORK .. image .. ':' .. class .. ':' .. tenant
end

-- image, class, tenant
local function parts_of(lane)
  return string.match(lane, '([^:]*):([^:]*):([^:]*)$')
end

local changes = {} -- tenant, or '' for all together -> field -> by how much to change that count

local function count(tenant, field, by)
  local fields = changes[tenant] or {}
  changes[tenant] = fields
  fields[field] = (fields[field] or 0) + by
end

local function count_queued(lane, tenant, by)
  local _, class = parts_of(lane)
  count(tenant, class, by)
  count('', 'queued', by)
end

local function drop_entry(lane, entry)
  append(acknowledged, lane, entry)
end

-- Every script that may end a call, or drop an entry, calls this last.
local function flush()
  for lane, entries in pairs(acknowledged) do
    redis.call('XACK', lane, GROUP, unpack(entries))
    redis.call('XDEL', lane, unpack(entries))
  end
  for channel, texts in pairs(announced) do
    redis.call('PUBLISH', channel, table.concat(texts))
  end
  for tenant, fields in pairs(changes) do
    for field, by in pairs(fields) do
      if by ~= 0 then
        redis.call('HINCRBY', tenant == '' and BACKLOG or TENANT .. tenant, field, by)
      end
    end
  end
end

-- A lane exists together with its group, which reads from the very first entry.
local function open_lane(lane)
  redis.pcall('XGROUP', 'CREATE', lane, GROUP, '0', 'MKSTREAM') -- BUSYGROUP: it is there, which is all we want
end

-- Gives a tenant its turns at an image. It starts with who had least, plus what it still owed when it last ran dry.
local function take_turns(image, tenant)
  local turns = TURNS .. image
  local first = redis.call('ZRANGE', turns, 0, 0, 'WITHSCORES')
  if first[1] == tenant or (first[1] and redis.call('ZSCORE', turns, tenant)) then
    return
  end
  local lanes = {}
  for at, class in ipairs(CLASSES) do
    lanes[at] = lane_of(image, class, tenant)
  end
  if redis.call('SADD', LANES, unpack(lanes)) > 0 then
    for _, lane in ipairs(lanes) do
      open_lane(lane)
    end
  end
  local start = tonumber(first[2] or 0)
  if first[1] then
    local told = redis.call('HMGET', TENANT .. tenant, 'debt', 'left_at')
    start = start + (told[1] and math.max(0, told[1] - math.max(0, now - told[2])) or 0)
  end
  redis.call('ZADD', turns, string.format('%.0f', start), tenant)
end

local function queued_in(lane)
  return redis.call('XLEN', lane) - redis.call('XPENDING', lane, GROUP)[1]
end

-- One token wakes one waiting worker. A token that lies in the list means that nobody waits, so one is enough: the
-- next worker that wants to wait takes it and claims again.
local function wake(image)
  local list = WAKE .. image
  if redis.call('LLEN', list) == 0 then
    redis.call('RPUSH', list, '1')
    redis.call('PEXPIRE', list, WAKE_TTL_MS)
  end
end

local function load_call(tenant, id)
  local key = CALL .. tenant .. ':' .. id
  local fields = redis.call('HMGET', key, 'state', 'attempt', 'owner', 'lane', 'entry', 'deadline', 'notify', 'size',
    'claimed_at')
  if not fields[1] then
    return nil
  end
  return {
    key = key, tenant = tenant, id = id, state = fields[1], attempt = tonumber(fields[2]), owner = fields[3],
    lane = fields[4], entry = fields[5], deadline = tonumber(fields[6]), notify = fields[7], size = tonumber(fields[8]),
    claimed_at = tonumber(fields[9]),
  }
end

-- The unfinished call that this entry stands for; nil if the entry is a leftover.
local function call_of(lane, entry, fields)
  local call = fields and load_call(fields[2], fields[4])
  return call and call.lane == lane and call.entry == entry and call or nil
end

-- A leftover entry: its call expired unseen, with nobody there to end it.
local function drop_leftover(lane, entry, fields)
  drop_entry(lane, entry)
  if fields then
    count('', 'bytes', -fields[8])
  end
end

-- The one way a call ends. The caller has made sure that it has not ended yet.
local function conclude(call, result)
  count('', 'bytes', -call.size)
  if call.state == 'queued' then
    count_queued(call.lane, call.tenant, -1)
  end
  redis.call('HSET', call.key, 'state', 'done', 'result', result)
  redis.call('HDEL', call.key, 'payload', 'size', 'notify', 'lane', 'entry', 'deadline', 'admitted_at', 'claimed_at',
    'age', 'cancel')
  redis.call('PEXPIRE', call.key, RESULT_TTL_MS)
  redis.call('SET', GONE .. call.tenant .. ':' .. call.id, '', 'PX', GONE_TTL_MS)
  drop_entry(call.lane, call.entry)
  for holder in string.gmatch(call.notify, '%S+') do
    if holder ~= TICKET then
      announce(ENDED .. holder, call.tenant, call.id, #result <= ANNOUNCED_BYTES and result or '')
    end
  end
  call.state = 'done'
end

local function entry_fields(lane, entry)
  local found = redis.call('XRANGE', lane, entry, entry)[1]
  return found and found[2]
end

-- Ends a call with a Result of the queue's own: no attempt is under way whose result could still come.
local function conclude_ourselves(call, template)
  local fields = entry_fields(call.lane, call.entry)
  local times = redis.call('HMGET', call.key, 'age', 'admitted_at')
  local age, queued = tonumber(times[1]), math.max(0, now - times[2])
  local result = cjson.decode(template)
  result.id = call.id
  result.attempts = call.attempt
  result.labels = fields and cjson.decode(fields[6]) or {}
  result.timings.admitted = age / 1e6
  result.timings.queued = queued / 1e6
  result.timings.total = (age + queued) / 1e6
  redis.call('HDEL', call.key, 'owner')
  conclude(call, cjson.encode(result))
end

-- Ends a call that nobody can start in time any more.
local function conclude_too_late(call)
  conclude_ourselves(call, call.attempt == 0 and EXPIRED or LOST_TOO_LATE)
end

local function has_lease(worker)
  return redis.call('EXISTS', WORKER .. worker) == 1
end

local function is_cancelled(call)
  return redis.call('HEXISTS', call.key, 'cancel') == 1
end

-- True if the call's deadline passed and no worker is there to end it: then it has been ended here.
local function concluded_too_late(call)
  if call.state == 'done' or now < call.deadline or (call.state == 'running' and has_lease(call.owner)) then
    return false
  end
  conclude_too_late(call)
  return true
end

-- Back into the queue, before everything of the tenant that has not been tried yet.
local function queue_again(call, attempt)
  local fields = entry_fields(call.lane, call.entry)
  local image = parts_of(call.lane)
  local lane = lane_of(image, 'again', call.tenant)
  drop_entry(call.lane, call.entry)
  take_turns(image, call.tenant)
  count_queued(lane, call.tenant, 1)
  local entry = redis.call('XADD', lane, '*', unpack(fields))
  redis.call('HSET', call.key, 'state', 'queued', 'lane', lane, 'entry', entry, 'attempt', attempt)
  redis.call('HDEL', call.key, 'owner')
  wake(image)
end

-- What the queue tells about a call: its state, and its result if it is done.
local function describe(tenant, id)
  local fields = redis.call('HMGET', CALL .. tenant .. ':' .. id, 'state', 'result')
  if fields[1] then
    return fields[1], fields[2]
  end
  return redis.call('EXISTS', GONE .. tenant .. ':' .. id) == 1 and 'gone' or false, false
end

local function hold_by(call, holders)
  call.notify = holders
  redis.call('HSET', call.key, 'notify', holders)
end

-- Announces the call's end to this channel too; as long as it holds the call, nobody else's leaving cancels it.
local function subscribe(call, channel)
  if not string.find(' ' .. call.notify .. ' ', ' ' .. channel .. ' ', 1, true) then
    hold_by(call, call.notify .. ' ' .. channel)
  end
end

-- Takes this holder out; true if nobody is left.
local function let_go(call, channel)
  local others = {}
  for holder in string.gmatch(call.notify, '%S+') do
    if holder ~= channel then
      others[#others + 1] = holder
    end
  end
  hold_by(call, table.concat(others, ' '))
  return #others == 0
end
