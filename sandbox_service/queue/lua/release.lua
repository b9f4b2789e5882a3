-- Gives back attempts that did not run; they are not counted. ARGV: worker, then for each: tenant, id, attempt.

local worker = ARGV[1]
for at = 2, #ARGV, 3 do
  local call = load_call(ARGV[at], ARGV[at + 1])
  if call and call.state == 'running' and call.owner == worker and call.attempt == tonumber(ARGV[at + 2]) then
    call.attempt = call.attempt - 1
    if is_cancelled(call) then
      redis.call('HSET', call.key, 'attempt', call.attempt)
      conclude_ourselves(call, CANCELLED)
    else
      queue_again(call, call.attempt)
    end
  end
end
flush()
