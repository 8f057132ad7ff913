# What do these attributes name?  request (a JSON text) -> arguments (a set) -> what the caller reads as JSON.
#
# A function is called as `nix-build` calls it, attributes are selected as `nix-build -A` selects them, and a set is
# searched as `nix-build` searches it (NixOS/nix: src/libexpr/eval.cc, autoCallFunction; src/libexpr/attr-path.cc;
# src/libexpr/get-drvs.cc): what does not evaluate there is an error, and nothing is left out. A set in which
# `nix-build` would take nothing is taken for a job set and searched as Hydra searches it, a few levels deep: there a
# job that does not evaluate is left out, and the answer names it.
requestText: argExprs:
let
  inherit (builtins)
    any attrNames concatLists concatMap elem elemAt filter fromJSON functionArgs genList getFlake hasAttr head isAttrs
    isFunction isList isString length listToAttrs map match seq stringLength substring tail toXML tryEval typeOf
    unsafeDiscardStringContext;

  request = fromJSON requestText;
  maxDepth = 4;
  maxFound = 1000;
  maxNames = 40;

  # What functions may ask for: texts and expressions.
  args = request.args // argExprs;

  text = v: unsafeDiscardStringContext "${v}";
  show = path: builtins.concatStringsSep "." path;

  # What `formals` of a function looks like, which the language can only tell through toXML: `x: …` has none, and
  # `{ a, ... }: …` takes more than it names.
  hasPrefix = prefix: s: substring 0 (stringLength prefix) s == prefix;
  functionXML = "<?xml version='1.0' encoding='utf-8'?>\n<expr>\n  <function>\n    <attrspat";

  autoCall = f:
    if isAttrs f && f ? __functor then autoCall (f.__functor f)
    else if ! isFunction f then f
    else
      let xml = toXML f; in
      if ! hasPrefix functionXML xml then f
      else if hasPrefix (functionXML + " ellipsis=\"1\"") xml then callWith f (args // given f)
      else callWith f (given f);
  given = f: builtins.intersectAttrs (functionArgs f) args;
  callWith = f: arguments:
    let
      missing = filter (a: ! (functionArgs f).${a} && ! (arguments ? ${a})) (attrNames (functionArgs f));
      what =
        if length missing == 1 then "an argument that has no default and was"
        else "arguments that have no default and were";
    in
    if missing == [ ] then f arguments
    else throw "the function at ${position f} wants ${what} not given: ${builtins.concatStringsSep ", " missing}";
  position = f:
    let
      names = attrNames (functionArgs f);
      pos = if names == [ ] then null else builtins.unsafeGetAttrPos (head names) (functionArgs f);
    in
    if pos == null then "the top" else "${pos.file}:${toString pos.line}:${toString pos.column}";
  toString = builtins.toString;

  isDerivation = v: isAttrs v && v ? type && v.type == "derivation";

  # Selection: { value; } or { missing; have; }. enter is what is done to a value before something is looked for in it.
  select = enter: v: path: done:
    if path == [ ] then { value = v; }
    else
      let f = enter v; name = head path; at = done ++ [ name ]; in
      if isAttrs f then
        if hasAttr name f then select enter f.${name} (tail path) at
        else { missing = show at; have = haveOf f; derivation = isDerivation f; }
      else if isList f then
        let i = if match "[0-9]+" name != null then fromJSON name else -1; in
        if i >= 0 && i < length f then select enter (elemAt f i) (tail path) at
        else { missing = show at; have = genList toString (length f); }
      else throw "attribute '${show at}' is looked for in ${typeOf f}, which has no attributes";

  # What stands beside a missing name. Of a derivation only what its author has put there, and its outputs.
  haveOf = f:
    if ! isDerivation f then attrNames f
    else
      let passthru = optional (let p = f.passthru or { }; in if isAttrs p then p else { }) { }; in
      filter (n: passthru ? ${n} || elem n (f.outputs or [ ])) (attrNames f);

  # Description of a derivation. Only what decides the build may fail; the rest is left out where it does.
  optional = v: default: let r = tryEval v; in if r.success then r.value else default;
  optionalText = v: let s = optional (let x = v; in if isString x then x else "") ""; in unsafeDiscardStringContext s;
  describe = attr: d:
    let
      names = d.outputs or [ "out" ];
      default = head names;
      outputName = d.outputName or default;
      meta = optional (let m = d.meta or { }; in if isAttrs m then m else { }) { };
      wanted = optional (let w = meta.outputsToInstall or [ ]; in filter (o: elem o names) w) [ ];
    in
    {
      inherit attr;
      name = text d.name;
      drvPath = text d.drvPath;
      outputs = listToAttrs (map (o: { name = o; value = text (d.${o} or d).outPath; }) names);
      install =
        if (d.outputSpecified or false) || outputName != default then [ outputName ]
        else if wanted != [ ] then wanted
        else [ outputName ];
      mainProgram = optionalText (meta.mainProgram or "");
      licenses =
        let l = optional (meta.license or [ ]) [ ]; in
        filter (id: id != "") (map (each: optionalText ((optional each { }).spdxId or "")) (if isList l then l else [ l ]));
    };

  # What `nix run` runs: a program, and the derivations that its path speaks of.
  isApp = v: isAttrs v && v ? program && (v.type or null) == "app";
  describeApp = attr: app: {
    inherit attr;
    program = text app.program;
    outputs = builtins.mapAttrs (_: of: of.outputs or [ ]) (builtins.getContext app.program);
  };

  # Sets. Found are { path; drv; }.
  foundAt = path: drv: [{ inherit path drv; }];
  attrName = "[A-Za-z_][A-Za-z0-9_+-]*";
  members = v:
    if isList v then genList (i: { name = toString i; value = elemAt v i; }) (length v)
    else map (name: { inherit name; value = v.${name}; }) (filter (n: match attrName n != null) (attrNames v));
  collect = path: v:
    let f = autoCall v; in
    if isDerivation f then foundAt path f
    else if isAttrs f || isList f then
      concatMap
        (m:
          let p = path ++ [ m.name ]; in
          if isDerivation m.value then foundAt p m.value
          else if searches f m.value then collect p m.value
          else [ ])
        (members f)
    else
      throw "${if path == [ ] then "the expression" else "attribute '${show path}'"} is ${typeOf f}, ${""
        }not a derivation or a set of them";
  searches = f: v: isList f || isAttrs v && (v.recurseForDerivations or false);
  # Whether `collect` would find anything, were it not for what does not evaluate.
  collects = v:
    let f = optional (autoCall v) null; in
    optional (isDerivation f) false
    || (isAttrs f || isList f)
    && any (m: optional (isDerivation m.value || searches f m.value && collects m.value) false) (members f);
  # Hydra's way: functions called, sets searched whatever they say. What does not evaluate is { path; broken; }.
  collectJobs = depth: path: v:
    let
      called = tryEval (let f = autoCall v; in seq f f);
      f = called.value;
      derivation = tryEval (let d = isDerivation f; in seq d d);
    in
    if ! called.success || ! derivation.success then [{ inherit path; broken = true; }]
    else if derivation.value then
      if (tryEval f.drvPath).success then foundAt path f else [{ inherit path; broken = true; }]
    else if isAttrs f && depth > 0 then
      concatMap (name: collectJobs (depth - 1) (path ++ [ name ]) f.${name}) (attrNames f)
    else [ ];

  systemOf = found: optional (found.drv.system or "") "";
  # What runs here: Nix's own builders and the 32-bit twin of this system do, too.
  ourSystems = [ request.system "builtin" ]
    ++ ({ x86_64-linux = [ "i686-linux" ]; aarch64-linux = [ "armv7l-linux" ]; }.${request.system} or [ ]);
  # Of a set that holds the same for several systems, this machine's are meant.
  forThisSystem = found:
    let
      ours = filter (f: elem (systemOf f) ourSystems) found;
      others = filter (f: ! elem (systemOf f) ourSystems) found;
    in
    if ours == [ ] || others == [ ] then { keep = found; notes = [ ]; }
    else {
      keep = ours;
      notes = map (f: "${show f.path} is for ${systemOf f}, not for ${request.system}: left out") others;
    };
  all = path: v: let f = autoCall v; in if isApp f then { apps = [ (describeApp (show path) f) ]; } else allOf path v;
  allOf = path: v:
    let
      plain = collects v;
      jobs = if plain then [ ] else collectJobs maxDepth path v;
      broken = filter (f: f ? broken) jobs;
      found = if plain then collect path v else filter (f: ! (f ? broken)) jobs;
      chosen = forThisSystem found;
    in
    if found == [ ] then
      # Where that is because something does not evaluate, this says what.
      seq (length (collect path v))
        { missing = ""; have = let f = autoCall v; in if isAttrs f then attrNames f else [ ]; }
    else if length found > maxFound then
      throw "${toString (length found)} derivations are in the set; name those to take"
    else {
      found = map (f: describe (show f.path) f.drv) chosen.keep;
      inherit (chosen) notes;
      leftOut = map (f: f.path) broken;
    };

  failure = path: r:
    let n = length r.have; in
    {
      attr = show path;
      missing = r.missing;
      derivation = r.derivation or false;
      have = genList (elemAt r.have) (if n < maxNames then n else maxNames);
      more = if n < maxNames then 0 else n - maxNames;
    };

  # One attribute path of an expression.
  ofExpression = v: path:
    let r = select autoCall v path [ ]; in
    if ! (r ? value) then { missing = failure path r; }
    else
      let found = all path r.value; in
      if found ? missing then { missing = failure path found; } else found;

  # One name of a flake: where Nix's command line looks for it.
  ofFlake = flake: path:
    let
      places =
        if path == [ ] then [
          [ "packages" request.system "default" ]
          [ "defaultPackage" request.system ]
          [ "apps" request.system "default" ]
          [ "defaultApp" request.system ]
        ]
        else if head path == "" then [ (tail path) ]
        else [
          ([ "packages" request.system ] ++ path)
          ([ "legacyPackages" request.system ] ++ path)
          path
          ([ "apps" request.system ] ++ path)
        ];
      # Of a flake Nix calls nothing that is a set.
      enter = v: if isAttrs v then v else autoCall v;
      plain = v: if isAttrs v && v ? __functor then removeAttrs v [ "__functor" ] else v;
      tried = map (p: { path = p; result = select enter flake.outputs p [ ]; }) places;
      hits = filter (t: t.result ? value) tried;
      # The longest way that was found says best what there is instead.
      first = head tried;
    in
    if hits == [ ] then
      { missing = failure (head places) (first.result // { have = haveOfFlake flake first.result; }); }
    else
      let
        hit = head hits;
        found = all hit.path (plain hit.result.value);
      in
      if found ? missing then { missing = failure hit.path found; }
      else found // { leftOut = map (p: [ "" ] ++ p) (found.leftOut or [ ]); };
  haveOfFlake = flake: result:
    let own = kind: attrNames (flake.outputs.${kind}.${request.system} or { }); in
    if own "packages" != [ ] then own "packages" else if own "apps" != [ ] then own "apps" else result.have;

  # Nix reads the files of an expression through its store, wherever that is, but a few builtins hand what they are given
  # to fetchers, which look for it in the file system: getFlake and fetchTree of a folder (save of a whole store path
  # named "source"; NixOS/nix: src/libfetchers/path.cc, getAccessor), and whatever takes a file:// address or a local
  # repository. Where that is said to have failed for a path of the store, the expression is evaluated once more with
  # these builtins in place of Nix's: folders are copied to the store under the name that the fetcher gives them, as it
  # does, and addresses say where the store is. request.store is the folder that stands for /nix/store.
  #
  # The files of the source see them, each imported once, and so do other files that name one of them themselves.
  storePrefix = builtins.storeDir + "/";
  isInStore = p: hasPrefix storePrefix p && builtins.pathExists p;
  inFileSystem = p: if isInStore p then request.store + substring (stringLength builtins.storeDir) (-1) p else p;
  fileAddress = url:
    let m = if isString url then match "(([a-z]+[+])?file://)(/[^?#]*)(.*)" url else null; in
    if m == null || builtins.hasContext url then url else "${head m}${inFileSystem (elemAt m 2)}${elemAt m 3}";
  # What the fetcher of folders makes of one: null where it needs no help. Files of the store are one second old.
  asSource = p:
    if ! isInStore p || match "${storePrefix}[0-9a-z]{32}-source/*" p != null || builtins.readFileType p == "symlink" then null
    else { path = unsafeDiscardStringContext (builtins.path { path = p; name = "source"; }); lastModified = 1; };
  folderAddress = url:
    let
      m = if isString url then match "(path:)?(/[^?#]*)([?]([^#]*))?(#.*)?" url else null;
      source = if m == null || builtins.hasContext url then null else asSource (elemAt m 1);
      given = if elemAt m 3 == null || elemAt m 3 == "" then "" else "&${elemAt m 3}";
      dated = match "(.*&)?lastModified=.*" given != null;
      fragment = if elemAt m 4 == null then "" else elemAt m 4;
    in
    if source == null then fileAddress url
    else "path:${source.path}?${if dated then "" else "lastModified=1"}${given}${fragment}";
  pathText = p: unsafeDiscardStringContext (toString p);
  withURL = locate: a: if isAttrs a && a ? url then a // { url = locate a.url; } else if isAttrs a then a else locate a;
  # fetchTree and fetchGit take an address that speaks of a store path, and the others refuse it.
  plainText = url: if isString url then unsafeDiscardStringContext url else url;
  repository = url:
    if builtins.isPath url || isString url && hasPrefix "/" url then inFileSystem (pathText url) else fileAddress (plainText url);
  fetchTree = a:
    if isAttrs a && (a.type or null) == "path" && a ? path then
      let source = asSource (pathText a.path); in
      builtins.fetchTree (if source == null then a else source // removeAttrs a [ "path" ])
    else builtins.fetchTree (withURL (url: folderAddress (plainText url)) a);
  patched = {
    inherit fetchTree;
    import = load;
    fetchTarball = a: builtins.fetchTarball (withURL fileAddress a);
    fetchGit = a: builtins.fetchGit (withURL repository a);
  };
  patchedBuiltins = builtins // patched // {
    builtins = patchedBuiltins;
    getFlake = url: getFlake (folderAddress url);
    fetchurl = a: builtins.fetchurl (withURL fileAddress a);
  };
  scope = patched // {
    builtins = patchedBuiltins;
    __getFlake = patchedBuiltins.getFlake;
    __fetchurl = patchedBuiltins.fetchurl;
  };
  scopedFile = p: { value = builtins.scopedImport scope p; files = { }; };
  scopedFolder = dir: scopedFile dir // {
    files = builtins.mapAttrs
      (name: type: (if type == "directory" then scopedFolder else scopedFile) "${dir}/${name}")
      (builtins.readDir dir);
  };
  sourceRoot = elemAt (match "(path:)?(${storePrefix}[^/?]+).*" (request.flake or request.file)) 1;
  isInSource = path: path == sourceRoot || hasPrefix (sourceRoot + "/") path;
  sourceFiles = scopedFolder sourceRoot;
  load = p:
    let
      path = pathText p;
      names = filter (name: isString name && name != "") (builtins.split "/" (substring (stringLength sourceRoot) (-1) path));
      known = builtins.foldl' (at: name: if at == null then null else at.files.${name} or null) sourceFiles names;
      file = if builtins.readFileType p == "directory" then p + "/default.nix" else p;
      fetches = length (builtins.split "fetchTree|getFlake|fetchTarball|fetchGit|fetchurl" (builtins.readFile file)) > 1;
    in
    if isInSource path then
      if known == null then builtins.scopedImport scope p else known.value
    else if ! isAttrs p && builtins.pathExists p && fetches then builtins.scopedImport scope p
    else import p;
  # A flake of the source with its files loaded so, as Nix puts one together (NixOS/nix: src/libflake/call-flake.nix);
  # what it takes from elsewhere stays as it is. Nix has by then called its outputs, which are lazy.
  loadFlake = f:
    if ! (isAttrs f && (f._type or null) == "flake" && isInSource (pathText f.outPath)) then f
    else
      let
        inputs = builtins.mapAttrs (_: loadFlake) f.inputs;
        outputs = (load (pathText f.outPath + "/flake.nix")).outputs (inputs // { self = result; });
        result = outputs // f.sourceInfo // { inherit inputs outputs; inherit (f) outPath sourceInfo _type; };
      in
      result;

  one =
    if request ? flake then ofFlake ((if request ? store then loadFlake else f: f) (getFlake request.flake))
    else ofExpression (if request ? store then load request.file else import request.file);
  # What is only taken where it is there.
  optionals = map (path: let r = one path; in if r ? missing then { } else r) (request.optional or [ ]);
  # The outputs that were named.
  withOutputs = outputs: r:
    if outputs == [ ] || ! (r ? found) then r
    else r // {
      found = map (d: d // { install = if outputs == [ "*" ] then attrNames d.outputs else outputs; }) r.found;
    };
  named = genList (i: withOutputs (elemAt request.outputs i) (one (elemAt request.attrs i))) (length request.attrs);
  results = named ++ optionals;
in
{
  found = concatLists (map (r: r.found or [ ]) results);
  apps = concatLists (map (r: r.apps or [ ]) results);
  notes = concatLists (map (r: r.notes or [ ]) results);
  # Attribute paths that can be asked for, to hear why.
  leftOut = concatLists (map (r: r.leftOut or [ ]) results);
  missing = concatLists (map (r: if r ? missing then [ r.missing ] else [ ]) results);
}
