
# Words of the machine itself: addresses, CTIDs, versions.
_pve_gpu_complete() {
    local kind=$1 root= word address text
    local -a typed found
    typed=(${(z)LBUFFER})
    while (( $#typed )); do
        case $typed[1] in
            --root) root=${(Q)typed[2]} ;;
            --root=*) root=${(Q)${typed[1]#--root=}} ;;
        esac
        shift typed
    done
    [[ $kind == (gpu|function) ]] && compset -P '*,'
    for word in "${(@f)$(sh -c "$_pve_gpu_candidates" sh "$kind" "${~root}" "$PREFIX" 2>/dev/null)}"; do
        address=${word%%$'\t'*} text=${word#*$'\t'}
        [[ -n $address ]] && found+=("${address//:/\\:}:${text//:/\\:}")
    done
    (( $#found )) && _describe -t "$kind" "$kind" found
}
