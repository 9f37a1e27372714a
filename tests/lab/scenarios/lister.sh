# machine: two-gpus
# reset: none
# needs: gpu-iommu-groups
# gpu-iommu-groups on a real kernel: every function, with the driver that sysfs says.

tool gpu-iommu-groups --all
expect_rc 0
count=0
for function in "$ROOT"/sys/bus/pci/devices/*; do
	count=$((count + 1))
	address=${function##*/}
	driver=$(grep "\"address\":\"$address\"" "$OUT" | grep -o '"driver":[^,]*' | head -n 1 | cut -d: -f2 | tr -d '"')
	if [ "$driver" = null ]; then driver=none; fi
	driver_is "$address" "$driver"
done
expect_that "one record a function" [ "$(grep -c '"type":"pci-device"' "$OUT")" = "$count" ]
driver_is 0000:01:00.0 nvidia
driver_is 0000:01:00.1 snd_hda_intel

# a slot that could be passed through: both functions are in its group, and nobody else
tool gpu-iommu-groups --check 01:00
expect_rc 0
tool gpu-iommu-groups 01:00.0
expect_rc 0
says '"isolated":true'
says '"vendor":"0x10de","device":"0x2204"'
says '"viable":false,"viable_once_bound":true'
says "\"group\":$(group_of 0000:01:00.0),"
says '"siblings":["0000:01:00.1"]'

# the GPU on the conventional bus shares its group with a network card
tool gpu-iommu-groups 05:01.0
expect_rc 0
says '"isolated":false'
says '0000:05:02.0'
tool gpu-iommu-groups --check 05:01.0
expect_rc 1
