# machine: two-gpus
# reset: none
# needs: gpu-iommu-groups
# contract: yes
# The driver's remove() waits for whoever has the GPU open; nothing but that process's end helps.

gpu=0000:01:00.0
hold 0
start_unbind $gpu
within 5 unbind_is S
note "it sleeps and looks; kill -9 does not end it, but makes it spin in the kernel"
kill_unbind
within 5 unbind_is R
note "the driver link goes before the driver's remove() is called: it says nothing about whether that came back"
driver_is $gpu none
absent "$ROOT/sys/bus/pci/drivers/nvidia/$gpu"
set_attr "$ROOT/sys/bus/pci/drivers/nvidia/unbind" 0000:02:00.0
note "another card of the same driver meanwhile"
driver_is 0000:02:00.0 none
set_attr "$ROOT/sys/bus/pci/drivers_probe" 0000:02:00.0
driver_is 0000:02:00.0 nvidia

# every attribute read by a process of its own: those that wait for the device's lock do not come back
mkdir /tmp/reads
for file in "$ROOT/sys/bus/pci/devices/$gpu"/*; do
	case ${file##*/} in config | rom | resource?* | remove | rescan | reset | driver) continue ;; esac
	if [ -f "$file" ] && [ -r "$file" ]; then raw read "$file" >"/tmp/reads/${file##*/}" & fi
done
# on a slow machine a read that only has not had its turn yet is not one that blocks: those that are left must
# stay for a while
blocked=
was=
quiet=0
while [ $quiet -lt 50 ]; do
	blocked=
	for file in /tmp/reads/*; do
		if [ ! -s "$file" ]; then blocked="$blocked ${file##*/}"; fi
	done
	if [ -z "$blocked" ]; then break; fi
	quiet=$((quiet + 1))
	if [ "$blocked" != "$was" ]; then quiet=0; fi
	was=$blocked
	sleep 0.1
done
note "reads that block beside it:${blocked:- none}"

within 8 tool gpu-iommu-groups --all
expect_rc 0
for function in "$ROOT"/sys/bus/pci/devices/*; do
	says "\"address\":\"${function##*/}\""
done
let_go
within 5 unbind_is gone
driver_is $gpu none
set_attr "$ROOT/sys/bus/pci/drivers_probe" $gpu
driver_is $gpu nvidia
