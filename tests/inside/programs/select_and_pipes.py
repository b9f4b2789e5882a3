import os, select
r, w = os.pipe()
os.set_blocking(r, False)
print(select.select([r], [], [], 0))
os.write(w, b"x")
poll = select.epoll()
poll.register(r, select.EPOLLIN)
print(len(poll.poll(1)), os.read(r, 5))
