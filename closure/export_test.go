package closure

// Changed is what a plan has that another had not.
var Changed = changed
