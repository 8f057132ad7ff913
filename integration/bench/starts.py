# Starts a command several times and prints what each start took, in seconds: from the fork to the
# end of the process, and of processor time.
import json, os, resource, sys, time

rounds, command, environment = int(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
took = []


def used():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


for _ in range(rounds):
    start, before = time.monotonic(), used()
    pid = os.posix_spawn(command[0], command, environment, file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)])
    _, status = os.waitpid(pid, 0)
    took.append((time.monotonic() - start, used() - before))
    if status:
        sys.exit("%s ended with %d" % (command, os.waitstatus_to_exitcode(status)))
print(json.dumps(took))
