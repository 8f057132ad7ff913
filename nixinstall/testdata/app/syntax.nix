{
  name = "app";
  src = ;
}
