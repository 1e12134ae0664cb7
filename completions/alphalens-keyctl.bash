_alphalens_keyctl_completion() {
    local IFS=$'
'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" \
                   COMP_CWORD=$COMP_CWORD \
                   _ALPHALENS_KEYCTL_COMPLETE=complete_bash $1 ) )
    return 0
}

complete -o default -F _alphalens_keyctl_completion alphalens-keyctl
