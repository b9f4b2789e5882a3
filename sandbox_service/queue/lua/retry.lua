-- Starts the next attempt at a call with the worker that has the present one, which it lost to a fault of ours.
-- ARGV: worker, tenant, id, attempt. Returns the new attempt; false if that attempt owns the call no more, or was the last.

local worker, attempt = ARGV[1], tonumber(ARGV[4])
local call = load_call(ARGV[2], ARGV[3])
if not (call and call.state == 'running' and call.owner == worker and call.attempt == attempt) then
  return false
end
if attempt >= MOST_ATTEMPTS or not has_lease(worker) then
  return false
end
return redis.call('HINCRBY', call.key, 'attempt', 1)
