# Makes Doxygen's comments of the headers' own, which are plain: before a declaration, and at the end of its line.
# What is cxx's, cxx documents.
/CXXBRIDGE1_STRUCT_/d
/^namespace rust {$/,/^} \/\/ namespace rust$/d
1s:^/\* :/** @file\n * :
1s:^// :/// @file\n/// :
s:^/\* ---- \(.*\) ---- \*/$::
s:^\( *\)/\* :\1/** :
s:^\( *\)//\( \|$\):\1///\2:
s:\([;,{0-9]\)\( *\)/\* \(.*\) \*/$:\1\2/**< \3 */:
