# alphalens-keyctl: completion for fish 3.1 and newer.
#
# What is typed, and what the program answers, is text here and never code: nothing is evaluated, and fish quotes a value
# where it inserts one.

# A word without its quotes, one of which may be open.
function __alphalens_keyctl_unquoted
    for closed in "$argv[1]" "$argv[1]'" "$argv[1]\""
        if set -l word (string unescape -- $closed)
            string join \n -- $word
            return
        end
    end
end

function __alphalens_keyctl_complete
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    set -l word (__alphalens_keyctl_unquoted "$typed")
    set -l program alphalens-keyctl
    string match -q '*/*' -- $words[1]; and test -x $words[1]; and set program $words[1]
    for line in (string join0 -- $words "$word" | command $program __complete 2>/dev/null)
        if string match -q "~*" -- $line; and test -z "$typed"
            # fish would insert the ~ bare, and then take the value for a home folder.
            continue
        else if string match -q "*"\t"*" -- $line
            printf '%s\n' $line
        else if test "$line" = :files
            set -l option (string match -r -- '^--[a-z-]+=' $word)
            for path in (__fish_complete_path (string replace -- "$option" '' $word))
                printf '%s%s\n' "$option" $path
            end
        end
    end
end

complete --command alphalens-keyctl --no-files --keep-order --arguments '(__alphalens_keyctl_complete)'
