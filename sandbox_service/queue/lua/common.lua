-- Put before every script: loading a call, and the ways its state changes. The constants in capitals (keys, times,
-- results) come from scripts.py.
--
-- A call is a hash {state, digest, attempt, owner, lane, entry, deadline, admitted_at, age, payload, notify, cancel,
-- result}. `notify` names its holders: the channels of gateways where somebody waits for it, and TICKET if somebody
-- will come back for it. While it is queued or running exactly one stream entry stands for it: `entry` in the stream `lane`.
-- Times are microseconds of the server's clock, which a Lua number holds exactly.

local CLASSES = { 'again', 'interactive', 'batch' } -- the lanes of an image, in the order they are claimed from

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local acknowledged = {} -- lane -> entries to take out of it at the end of the script
local announced = {} -- channel -> {{tenant, id}, ...} to publish at the end of the script

local function append(lists, name, item)
  local list = lists[name]
  if not list then
    list = {}
    lists[name] = list
  end
  list[#list + 1] = item
end

local function lane_of(image, class)
  return WORK .. image .. ':' .. class
end

local function image_of(lane)
  return string.match(lane, '([^:]*):[^:]*$')
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
  for channel, pairs_of_names in pairs(announced) do
    redis.call('PUBLISH', channel, cjson.encode(pairs_of_names))
  end
end

-- A lane exists together with its group, which reads from the very first entry.
local function open_lane(lane)
  if redis.call('SADD', LANES, lane) == 1 then
    redis.pcall('XGROUP', 'CREATE', lane, GROUP, '0', 'MKSTREAM') -- BUSYGROUP: it is there, which is all we want
  end
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
  local fields = redis.call('HMGET', key, 'state', 'attempt', 'owner', 'lane', 'entry', 'deadline', 'notify')
  if not fields[1] then
    return nil
  end
  return {
    key = key, tenant = tenant, id = id, state = fields[1], attempt = tonumber(fields[2]), owner = fields[3],
    lane = fields[4], entry = fields[5], deadline = tonumber(fields[6]), notify = fields[7],
  }
end

-- The unfinished call that this entry stands for; nil if the entry is a leftover.
local function call_of(lane, entry, fields)
  local call = fields and load_call(fields[2], fields[4])
  return call and call.lane == lane and call.entry == entry and call or nil
end

-- The one way a call ends. The caller has made sure that it has not ended yet.
local function conclude(call, result)
  redis.call('HSET', call.key, 'state', 'done', 'result', result)
  redis.call('HDEL', call.key, 'payload', 'notify', 'lane', 'entry', 'deadline', 'admitted_at', 'age', 'cancel')
  redis.call('PEXPIRE', call.key, RESULT_TTL_MS)
  redis.call('SET', GONE .. call.tenant .. ':' .. call.id, '', 'PX', GONE_TTL_MS)
  drop_entry(call.lane, call.entry)
  for holder in string.gmatch(call.notify, '%S+') do
    if holder ~= TICKET then
      append(announced, DONE .. holder, { call.tenant, call.id })
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

-- Back into the queue, before everything that has not been tried yet.
local function queue_again(call, attempt)
  local fields = entry_fields(call.lane, call.entry)
  local image = image_of(call.lane)
  local lane = lane_of(image, 'again')
  drop_entry(call.lane, call.entry)
  open_lane(lane)
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
