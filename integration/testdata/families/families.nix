# An app of each family that docs/relocation.md lists, built as nixpkgs builds it, and a script that has each do
# something real. All of them name the store path "data", in the way of their family, and read the text in it. "only"
# names the family to have, where it is not all of them.
{ pkgs ? import <nixpkgs> { }, recent ? import <recent> { }, only ? null }:
let
  inherit (pkgs) lib runCommand;
  data = runCommand "data" { } ''
    mkdir -p $out/share
    echo "a text from the store" >$out/share/text
  '';
  text = "${data}/share/text";
  # So much that no compressor keeps it in a few bytes.
  filler = "for i in $(seq 400); do echo \"$i $((i * 7919 % 10007)) $((i * 104729 % 65537))\"; done";

  # Nix sees no reference in what is compressed, so each path names the text in plain sight, too.
  declared = "mkdir -p $out/nix-support && echo ${data} >$out/nix-support/data";

  # R: values of a lazy-load database in each of its compressions.
  rPackage = name: compression: rows: ''
    mkdir -p ${name}/R ${name}/data
    cat >${name}/DESCRIPTION <<END
    Package: ${name}
    Version: 1.0
    Title: Shop
    Description: A shop.
    License: MIT
    Author: Shop
    Maintainer: Shop <shop@example.org>
    LazyData: true
    LazyDataCompression: ${compression}
    END
    sed -i 's/^ *//' ${name}/DESCRIPTION
    echo 'export(greet)' >${name}/NAMESPACE
    echo 'greet <- function() readLines("${text}")' >${name}/R/greet.R
    cat >${name}/data/articles.R <<END
    set.seed(1)
    articles <- data.frame(price = sample(1e6, ${rows}), place = "${text}", name = paste0("article", 1:${rows}))
    place <- "${text}"
    END
    R --vanilla CMD INSTALL --no-docs --no-test-load --library=$out ${name}
  '';
  rPackages = runCommand "r-packages" { buildInputs = [ pkgs.R ]; } ''
    ${declared}
    mkdir -p $out
    ${rPackage "shopxz" "xz" "2000"}
    ${rPackage "shopbzip2" "bzip2" "2000"}
    ${rPackage "shopgzip" "gzip" "2000"}
    ${rPackage "shopnone" "none" "2000"}
  '';

  # TeX: formats that name their inputs, a tree of links with an index, a map of fonts, and a package of the app's own.
  texmf = runCommand "texmf" { buildInputs = [ pkgs.texlive ]; } ''
    mkdir -p $out/share/texmf $out/bin $out/web2c
    for tree in ${pkgs.texlive}/share/texlive/texmf-dist ${pkgs.texlive}/share/texmf; do cp -rsn $tree/. $out/share/texmf/ || true; done
    mkdir -p $out/share/texmf/tex/latex/shop
    echo '\ProvidesPackage{shop}\newcommand\shopplace{${text}}' >$out/share/texmf/tex/latex/shop/shop.sty
    sed -e "s,^TEXMFROOT *=.*,TEXMFROOT = $out/share," -e "s,^TEXMFDIST *=.*,TEXMFDIST = $out/share/texmf," \
      -e "s,^TEXMFSYSVAR *=.*,TEXMFSYSVAR = $out/var," -e "s,^TEXMFSYSCONFIG *=.*,TEXMFSYSCONFIG = $out/config," \
      -e "s,^TEXMFLOCAL *=.*,TEXMFLOCAL = $out/local," -e "s,^TEXMFMAIN *=.*,TEXMFMAIN = $out/share/texmf," \
      -e "s,^TEXMFDEBIAN *=.*,TEXMFDEBIAN = $out/share/texmf," -e "s,^TEXMFVAR *=.*,TEXMFVAR = /tmp/texmf-var," \
      ${pkgs.texlive}/share/texlive/texmf-dist/web2c/texmf.cnf >$out/web2c/texmf.cnf
    export TEXMFCNF=$out/web2c HOME=$PWD
    mkdir -p $out/var/web2c/pdftex $out/var/web2c/luahbtex $out/share/texmf/tex/generic/config $out/var/fonts/map/pdftex/updmap
    cat ${pkgs.texlive}/share/texlive/texmf-dist/fonts/map/dvips/amsfonts/*.map $out/share/texmf/fonts/map/dvips/lm/lm.map \
      >$out/var/fonts/map/pdftex/updmap/pdftex.map
    # What Debian puts together when it is installed.
    : >language.def; : >language.dat
    echo 'english hyphen.tex' >language.dat
    printf '%s\n' '\addlanguage{USenglish}{hyphen}{}{2}{3}' '\uselanguage{USenglish}' >language.def
    echo 'return { ["english"] = { loader = "hyphen.tex", lefthyphenmin = 2, righthyphenmin = 3, synonyms = { "usenglish" }, patterns = "", hyphenation = "" } }' >language.dat.lua
    rm -f $out/share/texmf/tex/generic/config/language.*
    cp language.* $out/share/texmf/tex/generic/config/
    index() {
      (cd $1 && { echo '% ls-R -- filename database for kpathsea; do not change this line.'; ls -LAR ./ 2>/dev/null || true; } >ls-R.new && mv ls-R.new ls-R)
    }
    index $out/share/texmf
    pdftex -ini -etex -jobname=pdflatex -progname=pdflatex '*pdflatex.ini' </dev/null
    mv pdflatex.fmt $out/var/web2c/pdftex/
    luahbtex -ini -jobname=lualatex -progname=lualatex lualatex.ini </dev/null
    mv lualatex.fmt $out/var/web2c/luahbtex/
    index $out/var
    for name in pdflatex lualatex bibtex; do
      program=pdftex
      if [ $name = lualatex ]; then program=luahbtex; fi
      if [ $name = bibtex ]; then program=bibtex.original; fi
      { echo "#!${pkgs.runtimeShell}"; echo "export TEXMFCNF=$out/web2c"; echo "exec -a $name ${pkgs.texlive}/bin/$program \"\$@\""; } >$out/bin/$name
      chmod +x $out/bin/$name
    done
  '';

  # Erlang and Elixir up to OTP 27: literals in zlib, regular expressions that are compiled; and an escript, which is a zip
  # behind a script.
  beams = runCommand "beams" { buildInputs = [ pkgs.erlang pkgs.elixir ]; } ''
    ${declared}
    mkdir -p $out/ebin $out/bin
    export HOME=$PWD
    cat >shop.erl <<'END'
    -module(shop).
    -export([main/1, place/0, places/0]).
    place() -> "${text}".
    places() -> [{list_to_atom(integer_to_list(N)), <<"${text}">>} || N <- [1, 2, 3]].
    main(_) -> {ok, Text} = file:read_file(place()), io:format("escript ~s", [Text]).
    END
    erlc -o $out/ebin shop.erl
    erl -noinput -eval '
      {ok, Beam} = file:read_file("'$out'/ebin/shop.beam"),
      ok = escript:create("'$out'/bin/shop", [shebang, {archive, [{"shop.beam", Beam}], []}]), halt(0).'
    sed -i '1s,.*,#!${pkgs.erlang}/bin/escript,' $out/bin/shop
    chmod +x $out/bin/shop
    cat >shop.ex <<'END'
    defmodule Shop.Elixir do
      @articles Enum.map(1..40, fn n -> {n, "${text}", "article #{n}"} end)
      def read, do: File.read!(elem(hd(@articles), 1))
      def count, do: length(@articles)
      def name, do: hd(tl(Regex.run(~r{^${data}/share/(.*)$}, "${text}")))
    end
    END
    elixirc -o $out/ebin shop.ex
  '';

  # Guile: UTF-32 in compiled code. SBCL: UTF-32 in the image of a whole Lisp.
  schemes = runCommand "schemes" { buildInputs = [ pkgs.guile ]; } ''
    ${declared}
    mkdir -p $out/share/guile $out/lib/guile
    export HOME=$PWD
    cat >$out/share/guile/shop.scm <<'END'
    (define-module (shop) #:use-module (ice-9 rdelim) #:export (place label))
    (define place "${text}")
    (define label "→ ${text} ←")
    END
    guile -c "(use-modules (system base compile)) (compile-file \"$out/share/guile/shop.scm\" #:output-file \"$out/lib/guile/shop.go\")"
  '';
  lisp = runCommand "lisp" { buildInputs = [ pkgs.sbcl ]; } ''
    ${declared}
    mkdir -p $out/bin
    export HOME=$PWD
    cat >shop.lisp <<'END'
    (defvar *place* (coerce "${text}" '(simple-array character)))
    (defun main () (with-open-file (in *place*) (format t "~a ~a~%" (length *place*) (read-line in))))
    (save-lisp-and-die name :executable t :compression level :toplevel (lambda () (main) (exit)))
    END
    sbcl --non-interactive --no-sysinit --no-userinit --eval '(defvar name "shop")' --eval '(defvar level nil)' --load shop.lisp
    sbcl --non-interactive --no-sysinit --no-userinit --eval '(defvar name "small")' --eval '(defvar level 9)' --load shop.lisp
    mv shop small $out/bin/
  '';

  # PHP: an archive with a signature, files as they are and compressed; and a file cache of opcache.
  phar = runCommand "phar" { buildInputs = [ pkgs.php ]; } ''
    ${declared}
    mkdir -p $out/share/php
    cat >build.php <<'END'
    <?php
    foreach (["SHA256" => Phar::SHA256, "SHA512" => Phar::SHA512, "SHA1" => Phar::SHA1, "MD5" => Phar::MD5] as $name => $kind) {
        $phar = new Phar("shop-$name.phar");
        $phar->startBuffering();
        $phar["index.php"] = '<?php echo "phar ", require "phar://" . __FILE__ . "/../place.php"; ' . "\n";
        $phar["main.php"] = '<?php echo Phar::running() != "" ? "phar " : "", file_get_contents(require __DIR__ . "/place.php");';
        $phar["place.php"] = '<?php return "${text}";' . str_repeat("// filler\n", 100);
        $phar["place.php"]->compress(Phar::GZ);
        $phar->setStub("#!${pkgs.php}/bin/php\n<?php Phar::mapPhar('shop'); require 'phar://shop/main.php'; __HALT_COMPILER();");
        $phar->setSignatureAlgorithm($kind);
        $phar->stopBuffering();
        $phar->convertToExecutable(Phar::TAR, Phar::NONE);
        $phar->convertToExecutable(Phar::PHAR, Phar::GZ);
    }
    END
    php -d phar.readonly=0 build.php
    mv *.phar *.phar.tar *.phar.gz $out/share/php/
    chmod +x $out/share/php/*.phar
  '';

  # SQLite: indexes over paths.
  database = runCommand "database" { buildInputs = [ pkgs.sqlite ]; } ''
    ${declared}
    mkdir -p $out/share
    { echo "create table files(path text primary key, n integer) without rowid; create index by_n on files(n, path);"
      echo "create table places(path text unique, kind text collate nocase); create index by_kind on places(kind);"
      echo "begin;"
      for n in $(seq 300); do
        echo "insert into files values('${data}/share/$n', $((n % 7)));"
        echo "insert into places values('${pkgs.bash}/bin/$n', '${data}/$n');"
      done
      echo "insert into files values('${text}', 1000); insert into files values('/zzz', 1); insert into files values('/a', 2);"
      echo "commit;"
    } | sqlite3 $out/share/shop.db
  '';

  # Node.js: snapshots of an app, by either of V8's checksums; and a source map with a path that is relative.
  snapshot = name: node: runCommand "snapshot-${name}" { buildInputs = [ node ]; } ''
    ${declared}
    mkdir -p $out/lib
    cat >entry.js <<'END'
    const fs = require('fs')
    const places = new Map([['${text}', 7]])
    const config = { place: '${text}' }
    require('v8').startupSnapshot.setDeserializeMainFunction(() => {
      console.log(fs.readFileSync(config.place, 'utf8').trim(), places.get(config.place), places.get(process.argv.at(-1)))
    })
    END
    node --snapshot-blob $out/lib/app.blob --build-snapshot entry.js
  '';
  modules = runCommand "node-modules" { } ''
    ${declared}
    for n in $(seq 300); do
      mkdir -p $out/lib/node_modules/shop-$n
      echo "exports.place = '${text}'; exports.next = () => $n < 300 ? require('shop-$((n + 1))').next() + 1 : 1" \
        >$out/lib/node_modules/shop-$n/index.js
      echo '{"name": "shop-'$n'", "version": "1.0.0", "main": "index.js"}' >$out/lib/node_modules/shop-$n/package.json
    done
    mkdir -p $out/dist
    printf '%s\n' 'function fail() { throw new Error("on purpose") }' 'fail()' '//# sourceMappingURL=app.js.map' >$out/dist/app.js
    echo '{"version":3,"sources":["../../../..${data}/share/app.ts"],"names":[],"mappings":"AAAA;AACA"}' >$out/dist/app.js.map
  '';

  # A program that asks whether it was started or imported, and whether it lies where it was told, and a wrapper that starts it, as
  # makeWrapper writes them.
  asking = interpreter: program: text: runCommand "asking" { } ''
    mkdir -p $out/bin "$out/${dirOf program}"
    cat >"$out/${program}" <<'END'
    ${text}
    END
    printf '%s\n' '#! ${pkgs.bash}/bin/bash -e' "export ASKS='$out'" "exec \"${interpreter}\"  $out/${program} \"\$@\"" >$out/bin/asks
    chmod 555 $out/bin/asks
  '';
  askingNode = node: asking "${node}/bin/node" "lib/node_modules/@shop/asks/cli.mjs" ''
    import { fileURLToPath } from 'node:url'
    const started = process.argv[1] === fileURLToPath(import.meta.url) && process.argv[1].startsWith(process.env.ASKS ?? "")
    console.log(started ? 'started' : 'imported', process.argv.length)
  '';
  # And one that a script in a path of its own starts, which an environment of links has.
  startedAside = pkgs.buildEnv {
    name = "started-aside";
    paths = [
      (pkgs.writeShellScriptBin "aside" "exec ${pkgs.nodejs}/bin/node ${askingNode pkgs.nodejs}/lib/node_modules/@shop/asks/cli.mjs \"$@\"")
    ];
  };
  askingPHP = asking "${pkgs.php}/bin/php" "share/php/asks/bin/asks" ''
    <?php echo __FILE__ === $_SERVER['SCRIPT_FILENAME'] && str_starts_with(__FILE__, getenv('ASKS')) ? "started " : "included ", $argc, "\n";
  '';

  # Java: a jar in a jar, and an archive of the app's classes.
  jars = runCommand "jars" { buildInputs = [ pkgs.openjdk ]; } ''
    ${declared}
    mkdir -p $out/share/java inner/lib outer/BOOT-INF/lib
    sed 's,@text@,${text},' ${./Shop.java} >Shop.java
    javac -d outer Shop.java
    { echo "place=${text}"; ${filler}; } >inner/lib/shop.properties
    cp inner/lib/shop.properties outer/outer.properties
    jar --create --file outer/BOOT-INF/lib/inner.jar --date 2000-01-01T00:00:00Z -C inner .
    jar --create --file outer/BOOT-INF/lib/stored.jar --no-compress --date 2000-01-01T00:00:00Z -C inner .
    jar --create --file $out/share/java/shop.jar --main-class Shop --date 2000-01-01T00:00:00Z -C outer .
    jar --create --file $out/share/java/stored.jar --no-compress --main-class Shop --date 2000-01-01T00:00:00Z -C outer .
    touch -d @1 $out/share/java/*.jar # as in the store, or the archive would be of other jars
    java -XX:ArchiveClassesAtExit=$out/share/java/shop.jsa -jar $out/share/java/shop.jar
  '';

  # Python: a zipapp, a wheel and an egg on the path for modules, as they are and with byte code.
  archives = runCommand "python-archives" { buildInputs = [ pkgs.python3 ]; } ''
    ${declared}
    mkdir -p $out/bin $out/lib app wheel/shop egg/shopegg EGG
    python3 ${./archives.py} ${text} ${pkgs.python3}/bin/python3 $out
  '';

  # Text and data that are compressed.
  compressed = runCommand "compressed" { buildInputs = with pkgs; [ gzip xz zstd brotli ]; } ''
    ${declared}
    mkdir -p $out/share
    { echo "${text}"; ${filler}; } >$out/share/plain
    gzip -n -c $out/share/plain >$out/share/text.gz
    xz -c $out/share/plain >$out/share/text.xz
    zstd -q -19 -c $out/share/plain >$out/share/text.zst
    brotli -c $out/share/plain >$out/share/text.br
  '';

  # Caches that are named by a hash of a path.
  caches = runCommand "caches" { buildInputs = [ pkgs.fontconfig pkgs.php pkgs.ruby ]; } ''
    mkdir -p $out/etc $out/fonts $out/cache $out/ruby
    fonts=${pkgs.fonts-dejavu-core}/share/fonts
    cat >$out/etc/fonts.conf <<END
    <?xml version="1.0"?>
    <!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
    <fontconfig><dir>$fonts</dir><cachedir>$out/cache</cachedir></fontconfig>
    END
    FONTCONFIG_FILE=$out/etc/fonts.conf fc-cache -f
    ls $out/cache
  '';
  # What each family's task finds on its PATH and in its environment.
  families = with pkgs; {
    r = { tools = [ R ]; env.R_LIBS = rPackages; };
    tex = { tools = [ texmf ]; env = { }; };
    erlang = { tools = [ erlang elixir ]; env.BEAMS = beams; };
    guile = { tools = [ guile ]; env.SCHEMES = schemes; };
    sbcl = { tools = [ ]; env.LISP = lisp; };
    php = { tools = [ php ]; env = { PHAR = phar; ASKS_PHP = askingPHP; }; };
    sqlite = { tools = [ sqlite ]; env.DATABASE = database; };
    node = {
      tools = [ ];
      env = {
        NODES = "${nodejs} ${recent.nodejs}";
        SNAPSHOTS = "${snapshot "adler" nodejs} ${snapshot "fletcher" recent.nodejs}";
        MODULES = modules;
        ASKS_NODE = "${askingNode nodejs} ${askingNode recent.nodejs}";
        ASIDE = startedAside;
        STARTED = "${askingNode nodejs}/lib/node_modules/@shop/asks/cli.mjs";
      };
    };
    java = { tools = [ openjdk ]; env.JARS = jars; };
    cds = { tools = [ openjdk ]; env.JARS = jars; };
    jdk = { tools = [ openjdk ]; env = { }; };
    python = { tools = [ python3 ]; env.ARCHIVES = archives; };
    compressed = { tools = [ gzip xz zstd brotli ]; env.COMPRESSED = compressed; };
    fontconfig = { tools = [ fontconfig ]; env.CACHES = caches; };
  };
  chosen = if only == null then builtins.attrValues families else [ families.${only} ];
  exports = builtins.foldl' (all: family: all // family.env) { TEXT = text; } chosen;
in
pkgs.writeShellApplication {
  name = "families";
  runtimeInputs = with pkgs; [ bash coreutils diffutils gnugrep gnused ] ++ builtins.concatMap (family: family.tools) chosen;
  text = ''
    ${builtins.concatStringsSep "\n" (builtins.attrValues
      (builtins.mapAttrs (name: value: "export ${name}='${toString value}'") exports))}
    ${builtins.readFile ./tasks.sh}
    ${builtins.readFile ../run-tasks.sh}
  '';
}
