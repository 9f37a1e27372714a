
# Words of the machine itself: addresses, CTIDs, versions. Everything else is for the function above.
# Readline splits words at : and = and takes only what is behind the last of them.
_pve_gpu_@FUNCTION@() {
    local line=${COMP_LINE:0:COMP_POINT} cur prev verb= root= kind= word at skip=
    local -a words found
    read -ra words <<<"$line"
    case $line in *[[:space:]]|"") words+=("") ;; esac
    cur=${words[${#words[@]}-1]}
    prev=
    for ((at = 1; at < ${#words[@]} - 1; at++)); do
        word=${words[at]} prev=$word
        case $word in
            --root) root=${words[at+1]} ;;
            --root=*) root=${word#--root=} ;;
        esac
        case "$skip,$verb,$word" in
            ,,@VERBS@) verb=$word ;;
        esac
        skip=
        case $word in
            @VALUED@) skip=1 ;;
        esac
    done
    case $cur in
        --*=*) prev=${cur%%=*} skip=1 cur=${cur#*=} ;;
    esac
    if [[ -n $skip ]]; then
        case "$verb,$prev" in
@OPTIONS@
        esac
    elif [[ $cur != -* ]]; then
        case $verb in
@OPERANDS@
        esac
    fi
    if [[ $kind == runfile ]]; then
        COMPREPLY=($(compgen -f -X '!*.run' -- "$cur"; compgen -d -- "$cur"))
        compopt -o filenames 2>/dev/null
        return 0
    fi
    if [[ -z $kind ]]; then
        _@FUNCTION@ "$@"
        return
    fi
    local before= known
    case $kind in
        gpu|function) [[ $cur == *,* ]] && before=${cur%,*}, ;;
    esac
    known=$(sh -c "$_pve_gpu_candidates" sh "$kind" "${root/#\~/$HOME}" "${cur#"$before"}" 2>/dev/null)
    while IFS=$'\t' read -r word _; do
        [[ -n $word && $before$word == "$cur"* ]] && found+=("$before$word")
    done <<<"$known"
    local break
    for break in : =; do
        if [[ $COMP_WORDBREAKS == *$break* && $cur == *$break* ]]; then
            word=${cur%"${cur##*$break}"}
            found=("${found[@]#"$word"}") cur=${cur#"$word"}
        fi
    done
    COMPREPLY=("${found[@]}")
    return 0
}
