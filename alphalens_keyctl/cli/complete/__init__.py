"""What TAB does. The scripts in `completions/` run `alphalens-keyctl __complete`, which none of the commands is.

The request, on stdin: the words from the program's own name to the cursor, without their quotes, each ended by a NUL
byte. The last is the word at the cursor, empty where none has begun. They are on stdin because a word may be a raw
key, and arguments and environments show in the process list (promise 1).

The answer, on stdout, in UTF-8 whatever the locale: a line for each text that the word at the cursor may become, then
a TAB, then a description, which may be empty. A line without a TAB says something else: `:files`, that a file is meant.
A text is what the program would have to get as an argument; the script quotes it as its shell does. Neither text nor
description holds a control character (promise 12). Whatever goes wrong, the answer is empty and stderr too.
"""
