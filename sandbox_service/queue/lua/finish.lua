-- Stores results of attempts. ARGV: worker, then for each: tenant, id, attempt, CPU time in us, result.
-- Returns {1 or 0, ...}. 0 is stale: another attempt owns the call, or it ended otherwise. Repeating a finish that was
-- stored answers 1.

local worker = ARGV[1]
local reply = {}
local taken = {} -- tenant -> {executions, slot time, CPU time, images}
for at = 2, #ARGV, 5 do
  local call = load_call(ARGV[at], ARGV[at + 1])
  local owned = call and call.owner == worker and call.attempt == tonumber(ARGV[at + 2])
  if owned and call.state == 'running' then
    local sum = taken[call.tenant] or { 0, 0, 0, {} }
    taken[call.tenant] = sum
    sum[1], sum[2], sum[3] = sum[1] + 1, sum[2] + math.max(0, now - call.claimed_at), sum[3] + ARGV[at + 3]
    sum[4][parts_of(call.lane)] = true
    conclude(call, ARGV[at + 4])
  end
  reply[#reply + 1] = owned and 1 or 0
end
flush()

-- How long a tenant's calls take a slot: the mean, in which each call counts less and less as others follow.
for tenant, sum in pairs(taken) do
  local key = TENANT .. tenant
  local told = redis.call('HMGET', key, 'service', 'cpu', 'in_flight')
  local mean = sum[2] / sum[1]
  if told[1] then
    mean = told[1] + (mean - told[1]) * (1 - (1 - 1 / MEMORY) ^ sum[1])
  end
  redis.call('HSET', key, 'service', string.format('%.0f', mean), 'cpu', string.format('%.0f', (told[2] or 0) + sum[3]))
  if told[3] then
    for image in pairs(sum[4]) do
      wake(image) -- the tenant may have been at its limit
    end
  end
end
return reply
