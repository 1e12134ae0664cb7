# alphalens-keyctl: completion for bash 3.2 and newer.
#
# What is typed, and what the program answers, is text here and never code: nothing is evaluated, and a value is quoted
# by `printf %q`, or as the open quote before it needs.

# Split a line as bash would, running nothing. Sets `words` (without their quotes), `raw` (the last one as it stands in
# the line), `quote` (the quote that is open at the end, or nothing) and `into_file` (the last word follows < or >).
_alphalens_keyctl_split() {
    local line=$1 character i word='' begun=
    words=() raw='' quote='' into_file=
    for ((i = 0; i < ${#line}; i++)); do
        character=${line:i:1}
        if [[ $quote == \' && $character != \' ]]; then
            word+=$character raw+=$character
        elif [[ $character == \\ ]] && [[ $quote != \" || ${line:i+1:1} == [\$\`\"\\] ]]; then
            word+=${line:i+1:1} raw+=${line:i:2} begun=1
            ((i++))
        elif [[ -n $quote && $character == "$quote" ]]; then
            raw+=$character quote=''
        elif [[ -z $quote && $character == [\'\"] ]]; then
            raw+=$character quote=$character begun=1
        elif [[ -z $quote && $character == [[:blank:]\<\>] ]]; then
            if [[ -n $begun ]]; then
                [[ -z $into_file ]] && words+=("$word")
                into_file=
            fi
            [[ $character == [\<\>] ]] && into_file=1
            word='' raw='' begun=
        else
            word+=$character raw+=$character begun=1
        fi
    done
    words+=("$word")
}

# Quote a value for what stands before it: for the open quote, or for no quote at all.
_alphalens_keyctl_quote() {
    case $2 in
        \') quoted=${1//\'/\'\\\'\'} ;;
        \")
            quoted=${1//\\/\\\\} quoted=${quoted//\"/\\\"} quoted=${quoted//\$/\\\$} quoted=${quoted//\`/\\\`}
            quoted=${quoted//!/\"\'!\'\"} # inside double quotes nothing keeps ! from the history
            ;;
        *)
            if [[ -n $1 ]]; then printf -v quoted %q "$1"; else quoted=''; fi
            quoted=${quoted//\\,/,} # bare, as people type a list: a comma means something between braces alone
            return
            ;;
    esac
    # readline takes a first character like the open quote for that quote, and a last one for the quote that closes it.
    [[ $quoted == "$2"* ]] && quoted=$2$quoted
    [[ $quoted == *"$2" ]] && quoted=$quoted$2
}

_alphalens_keyctl() {
    local words raw quote into_file quoted head program=alphalens-keyctl value answer room i longest=0
    local values=() descriptions=() files=

    _alphalens_keyctl_split "${COMP_LINE:0:COMP_POINT}"
    [[ $1 == */* && -x $1 ]] && program=$1
    COMPREPLY=()
    if [[ -n $into_file ]]; then
        files=1
    else
        while IFS= read -r answer; do
            if [[ $answer == *$'\t'* ]]; then
                values+=("${answer%%$'\t'*}") descriptions+=("${answer#*$'\t'}")
            elif [[ $answer == :files ]]; then
                files=1
            fi
        done < <(printf '%s\0' "${words[@]}" | command "$program" __complete 2>/dev/null)
    fi

    if [[ -n $files ]]; then
        compopt -o filenames 2>/dev/null
        while IFS= read -r value; do COMPREPLY+=("$value"); done < <(compgen -f -- "$2")
        return
    fi

    # Bash replaces $2, the end of what is typed: what stands before it, up to a colon, say, stays.
    head=${raw%"$2"}
    local kept
    _alphalens_keyctl_split "$head"
    kept=${words[${#words[@]} - 1]}
    for ((i = 0; i < ${#values[@]}; i++)); do
        value=${values[i]:${#kept}}
        _alphalens_keyctl_quote "$value" "$quote"
        COMPREPLY+=("$quoted")
        ((${#quoted} > longest)) && longest=${#quoted}
    done

    compopt -o nosort 2>/dev/null

    # Descriptions, where bash lists what there is and inserts none of it (COMP_TYPE 37 and 42 insert one after the other).
    # Only a description is ever cut: of two values cut to the same text bash would insert that text.
    if ((${#values[@]} > 1 && COMP_TYPE != 37 && COMP_TYPE != 42)); then
        ((longest > 40)) && longest=40
        for ((i = 0; i < ${#values[@]}; i++)); do
            answer=
            ((longest > ${#COMPREPLY[i]})) && printf -v answer '%*s' $((longest - ${#COMPREPLY[i]})) ''
            answer+="  (${descriptions[i]})"
            room=$((${COLUMNS:-80} - ${#COMPREPLY[i]} - 2))
            [[ -n ${descriptions[i]} ]] && ((room > 8)) && COMPREPLY[i]+=${answer:0:room}
        done
    fi
}

complete -F _alphalens_keyctl alphalens-keyctl
