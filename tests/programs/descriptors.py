"""Sends 1000 descriptors over the channel at 3, with envelopes and without, one and many at a time."""
import array
import os
import select
import socket

channel = socket.socket(fileno=os.dup(3))
null = os.open('/dev/null', os.O_RDONLY)
envelope = b'{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"a":1}}\n'
sent = 0
for number in range(100):
    count = [1, 10, 19][number % 3]
    line = [envelope, b'"a message"\n', envelope * 3][number // 3 % 3]
    rights = array.array('i', [null] * count)
    while True:
        try:
            channel.sendmsg([line], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            break
        except BlockingIOError:
            select.select([], [channel], [])
        except OSError as error:
            print('stopped', error.errno, sent, flush=True)
            raise SystemExit(0)
    sent += count
print('sent', sent, flush=True)
