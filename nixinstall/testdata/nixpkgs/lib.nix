{
  version = builtins.readFile ./version;
}
