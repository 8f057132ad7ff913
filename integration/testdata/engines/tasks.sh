# tasks NAME...: gives programs real tasks. What a task prints is the same under every engine, but for where the store is.

# A module with a C extension; and no source that has to be compiled, also of a module that names its interpreter.
task_python() {
    python3 -v -c '
import sys, json, hashlib, encodings.rot_13, lxml.etree as etree
print(etree.__file__, sys.prefix, hashlib.sha256(b"x").hexdigest()[:8])
print(etree.fromstring("<a><b>1</b><b>2</b></a>").xpath("sum(//b)"))
' 2>imports
    echo "from source: $(grep -c "code object from .*\.py$" imports || true)"
    echo "from byte code: $(grep -c "code object from .*\.pyc'$" imports || true)"
}

# A module in C, and the core's own.
task_perl() {
    perl -MJSON::XS -MPOSIX=floor -MList::Util=sum -e '
        print JSON::XS->new->canonical->encode({sum => sum(1 .. 4), floor => floor(3.7)}), " $INC{q(JSON/XS.pm)}\n"'
}

# A server with helpers found by its prefix, and its log.
task_nginx() {
    local here=$PWD server status
    mkdir -p site tmp
    echo "<p>a page</p>" >site/index.html
    cat >nginx.conf <<EOF
daemon off; pid $here/nginx.pid; error_log $here/error.log; worker_processes 2;
events {}
http {
    access_log $here/access.log;
    client_body_temp_path tmp/a; proxy_temp_path tmp/b; fastcgi_temp_path tmp/c; uwsgi_temp_path tmp/d; scgi_temp_path tmp/e;
    server { listen 127.0.0.1:8088; root $here/site; }
}
EOF
    nginx -e error.log -p "$here/" -c "$here/nginx.conf" &
    server=$!
    await "nginx" test -s nginx.pid
    exec 3<>/dev/tcp/127.0.0.1/8088
    printf 'GET / HTTP/1.0\r\n\r\n' >&3
    grep -E '^(HTTP|<p>)' <&3 | tr -d '\r'
    exec 3>&-
    kill -QUIT "$server"
    wait "$server" && status=0 || status=$?
    echo "ended with $status, logged $(grep -c 'GET / HTTP/1.0" 200' access.log) request"
}

# A server that starts many processes, its client, and an extension loaded at run time. It is started through /bin/sh.
task_postgres() {
    initdb --pgdata=data --auth=trust --locale=C --encoding=UTF8 --username=app --no-sync >initdb.log
    tail -n 1 initdb.log | grep -o 'start' || grep -o Success initdb.log
    pg_ctl --pgdata=data --wait --log=log --options="-k $PWD -c listen_addresses= -c fsync=off" start >/dev/null
    psql --host="$PWD" --username=app --dbname=postgres --no-psqlrc --quiet --tuples-only --no-align <<'EOF'
create table t (n int);
insert into t select generate_series(1, 1000);
create extension pg_trgm;
select sum(n), similarity('relocate', 'relocated') > 0.5 from t;
EOF
    # Not silent, it prints a dot for each second that it takes.
    pg_ctl --silent --pgdata=data --wait --mode=fast stop
    echo "ended with $?"
}

task_redis() {
    redis-server --port 0 --unixsocket "$PWD/redis.sock" --save "" --daemonize no --logfile redis.log &
    local server=$!
    await "redis" test -S redis.sock
    redis-cli -s redis.sock set greeting "good night"
    redis-cli -s redis.sock get greeting
    redis-cli -s redis.sock shutdown nosave
    wait "$server"
    echo "ended with $?"
}

# Programs that git finds by its own path, a script among them.
task_git() {
    export GIT_CONFIG_GLOBAL=$PWD/gitconfig GIT_AUTHOR_DATE="2000-01-01T00:00:00Z" GIT_COMMITTER_DATE="2000-01-01T00:00:00Z"
    git config --global user.name app
    git config --global user.email app@example.org
    git config --global init.defaultBranch main
    git init --quiet one
    echo text >one/file
    git -C one add file
    git -C one commit --quiet --message "First"
    git -C one bundle create --quiet ../bundle main
    git clone --quiet bundle two
    git -C two log --format='%H %s'
    git -C two submodule status
    git -C two fsck --no-progress --full
    git --exec-path
    ls one/.git/hooks | head -n 2
}

# The file transport, whose other end is started by /bin/sh.
task_clone() {
    git init --quiet --bare bare
    git clone --quiet bare three 2>&1
    git -C three remote get-url origin | sed "s,$PWD,WORK,"
}

task_java() {
    java -Xshare:auto -version 2>&1
    java -Xint -jar "$GREETER" java
}

# Byte code from many applications, and a library in C.
task_erlang() {
    erl -noinput -boot start_clean -eval '
        {ok, _} = application:ensure_all_started(crypto),
        io:format("~s ~s ~p~n", [erlang:system_info(otp_release), code:root_dir(),
            binary:encode_hex(crypto:hash(md5, <<"x">>))]),
        halt(0).' | tail -n 1
}

task_node() {
    node -e '
        console.log(require("greeter").greet("node"), process.versions.node, typeof fetch)
        console.log(require("zlib").gunzipSync(require("zlib").gzipSync("zipped")).toString())
        new (require("worker_threads").Worker)("console.log(1 + 1)", {eval: true})'
}

await() {
    local name=$1
    shift
    for _ in $(seq 200); do
        if "$@"; then return 0; fi
        sleep 0.05
    done
    echo "$name did not start" >&2
    return 1
}
