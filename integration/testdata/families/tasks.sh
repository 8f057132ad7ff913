# families NAME...: each family does something real. What it prints is the same at /nix and relocated.
export SOURCE_DATE_EPOCH=946684800

# Values in all compressions of R's databases, a model, and R's own data.
task_r() {
    R --vanilla --no-echo -e '
        for (name in c("shopxz", "shopbzip2", "shopgzip", "shopnone")) {
            library(name, character.only = TRUE)
            articles <- get("articles", envir = asNamespace(name)$.__NAMESPACE__.$lazydata)
            place <- get("place", envir = asNamespace(name)$.__NAMESPACE__.$lazydata)
            cat(name, sum(articles$price), readLines(articles$place[1]), readLines(place), getExportedValue(name, "greet")(), "\n")
        }
        print(round(coef(lm(mpg ~ wt, mtcars)), 3))
        cat(R.home(), nchar(system.file("DESCRIPTION", package = "shopxz")) > 0, "\n")'
}

# A document with references, mathematics, hyphens and a picture of its own, by two engines.
task_tex() {
    cat >refs.bib <<'END'
@book{knuth, author = {Donald E. Knuth}, title = {The {\TeX}book}, publisher = {Addison-Wesley}, year = {1984}}
END
    cat >doc.tex <<'END'
\documentclass{article}
\usepackage{shop}
\usepackage{graphicx}
\ifdefined\pdfobjcompresslevel\pdfobjcompresslevel=0 \else\pdfvariable objcompresslevel=0 \fi
\begin{document}
\tableofcontents
\section{Places}
See \cite{knuth} and $\sum_{n=1}^{\infty} \frac{1}{n^2} = \frac{\pi^2}{6}$. \newread\text \openin\text=\shopplace\relax \read\text to \line \line
\begin{picture}(10,10)\put(0,0){\line(1,1){10}}\end{picture}
\typeout{read: \line}
\bibliographystyle{plain}
\bibliography{refs}
\end{document}
END
    sed 's/\\line/\\textline/g; s/\\put(0,0){\\textline(1,1){10}}/\\put(0,0){\\circle{5}}/' doc.tex >latex.tex
    for engine in pdflatex lualatex; do
        mkdir $engine
        cp latex.tex refs.bib $engine/
        (cd $engine && $engine -interaction=batchmode latex >said 2>&1 || { cat said; tail -n 30 latex.log; exit 1; }
            bibtex latex >bibtex.said || { cat bibtex.said; exit 1; }
            $engine -interaction=batchmode latex >said && $engine -interaction=batchmode latex >said
            grep -E '^(Output written|read:)' latex.log
            grep -c 'Knuth' latex.bbl
            grep -ao '/FontName */[A-Z]*+[A-Za-z0-9-]*' latex.pdf | sort -u | sed 's,.*+,,' || true)
    done
}

# Literals of Erlang and Elixir, and an escript.
task_erlang() {
    erl -noinput -pa "$BEAMS/ebin" -eval '
        {ok, Text} = file:read_file(shop:place()),
        io:format("~s ~s~p~n", [erlang:system_info(otp_release), Text, length(shop:places())]), halt(0).'
    "$BEAMS/bin/shop"
    elixir -pa "$BEAMS/ebin" -e 'IO.write(Shop.Elixir.read()); IO.puts(Shop.Elixir.count()); IO.puts(Shop.Elixir.name())'
}

task_guile() {
    guile --no-auto-compile -L "$SCHEMES/share/guile" -C "$SCHEMES/lib/guile" -c '
        (use-modules (shop) (ice-9 rdelim))
        (display (call-with-input-file place read-line)) (newline)
        (display (string-length label)) (newline)
        (display (call-with-input-file (substring label 2 (- (string-length label) 2)) read-line)) (newline)'
}

# A Lisp as it is, and one that is compressed.
task_sbcl() {
    "$LISP/bin/shop"
    "$LISP/bin/small"
}

task_php() {
    for archive in "$PHAR"/share/php/*.phar; do
        "$archive"
        php "$archive"
    done
    for archive in "$PHAR"/share/php/*.phar.*; do
        php -r 'echo file_get_contents(require "phar://$argv[1]/place.php");' "$archive"
    done
    "$ASKS_PHP/bin/asks" a b
    php -d opcache.enable_cli=1 -d opcache.file_cache="$PWD" -r 'var_dump(function_exists("opcache_get_status"));'
}

# Each index is used, and all of them are in order.
task_sqlite() {
    local db=$DATABASE/share/shop.db place=${TEXT%/share/text}
    sqlite3 -readonly "$db" "pragma integrity_check;" "select n from files where path = '$TEXT';" \
        "select count(*) from files where path between '$place/share/100' and '$place/share/199';" \
        "select count(*) from places indexed by by_kind where kind = '$place/7';" \
        "select count(*) from files indexed by by_n where n = 3 and path > '$place';"
}

# Snapshots of an app, 300 modules, a source map, and a module that asks whether it was started: by a wrapper beside it, and by
# the name that this script has.
task_node() {
    local snapshots node asks
    read -r -a snapshots <<<"$SNAPSHOTS"
    for node in $NODES; do
        "$node/bin/node" --snapshot-blob "${snapshots[0]}/lib/app.blob" "$TEXT"
        snapshots=("${snapshots[@]:1}")
        NODE_PATH=$MODULES/lib/node_modules "$node/bin/node" -e '
            const first = require("shop-1")
            console.log(process.versions.v8.split(".").length > 2, first.next(), require("fs").readFileSync(first.place, "utf8").trim())'
        "$node/bin/node" "$STARTED"
        { "$node/bin/node" --enable-source-maps "$MODULES/dist/app.js" 2>&1 || true; } | grep -oE 'Error: on purpose|app.ts:[0-9]+' | sort -u
    done
    for asks in $ASKS_NODE; do "$asks/bin/asks" a b; done
    "$ASIDE/bin/aside" a
}

task_java() {
    for name in shop stored; do java -Xint -jar "$JARS/share/java/$name.jar"; done
}

# A class data archive of an app: used where its jar has the path and the time that it had, else done without. Java says
# so, on its standard output.
task_cds() { java -XX:SharedArchiveFile="$JARS/share/java/shop.jsa" -jar "$JARS/share/java/shop.jar" | grep -v '\[warning\]\[cds'; }

# The modules of a full JDK: listed, and described.
task_jdk() {
    java --list-modules | grep -c '^java\.'
    java -m jdk.jlink/jdk.tools.jmod.Main describe "$(dirname "$(dirname "$(readlink -f "$(command -v java)")")")/jmods/java.xml.jmod" | head -n 2
    cat >Hello.java <<'END'
public class Hello { public static void main(String[] a) { System.out.println("compiled " + Runtime.version().feature()); } }
END
    java Hello.java
}

task_python() {
    "$ARCHIVES/bin/shop.pyz"
    PYTHONPATH=$(echo "$ARCHIVES"/lib/*.whl):$(echo "$ARCHIVES"/lib/*.egg) python3 -c '
import pkgutil, shopegg, shopwheel
for module in shopwheel, shopegg:
    print(module.__name__, module.read(), module.__cached__ is None or True, open(pkgutil.get_data(module.__name__, "data.txt").split()[0]).read().strip())'
}

task_compressed() {
    local share=$COMPRESSED/share file
    for file in "gzip -dc $share/text.gz" "xz -dc $share/text.xz" "zstd -dqc $share/text.zst" "brotli -dc $share/text.br"; do
        $file >plain
        cat "$(head -n 1 plain)"
        cmp plain "$share/plain" && wc -l <plain
    done
}

task_fontconfig() {
    FONTCONFIG_FILE=$CACHES/etc/fonts.conf fc-list : family | sort -u
    FONTCONFIG_FILE=$CACHES/etc/fonts.conf fc-match --format '%{file}\n' 'DejaVu Sans'
}
